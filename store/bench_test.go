package store

import (
	"fmt"
	"testing"
)

// BenchmarkStart is what every start of a pod asks of the store.
func BenchmarkStart(b *testing.B) {
	for _, others := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("%d other names", others), func(b *testing.B) {
			s := newStore(b)
			img := fetchImage(b, s, "reg.example/team/app:1", "one", "two", "three", "four", "five")
			for i := range others {
				img.Name = fmt.Sprintf("reg.example/team/other:%d", i)
				if err := s.Put(img); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := start(s.dir, "reg.example/team/app:1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func start(dir, name string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	release, err := s.Share()
	if err != nil {
		return err
	}
	defer release()
	img, err := s.Get(name)
	if err != nil {
		return err
	}
	m, err := s.Manifest(img)
	if err != nil {
		return err
	}
	cfg, err := s.Config(m)
	if err != nil {
		return err
	}
	if _, err := s.Root(cfg); err != nil {
		return err
	}
	return s.Touch(img)
}
