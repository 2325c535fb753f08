package pod

import (
	"os"
	"strings"
	"testing"
)

// docTable reads the rows of the table under a heading of the document.
func docTable(t *testing.T, heading string) [][]string {
	t.Helper()
	data, err := os.ReadFile("../Documentation/devel/pod-lifecycle.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(data), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("the document has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var rows [][]string
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	if len(rows) < 3 {
		t.Fatalf("section %q has no table", heading)
	}
	return rows[2:] // below the heading and the line of dashes
}

func TestPhasesAreThoseOfTheDocument(t *testing.T) {
	rows := docTable(t, "Phases")
	if len(rows) != len(Places()) {
		t.Errorf("the document has %d places, the code %d", len(rows), len(Places()))
	}
	for _, row := range rows {
		place := Place(row[0])
		if got := PhaseOf(place, true); string(got) != row[1] {
			t.Errorf("%s, lock held: %q in the code, %q in the document", place, got, row[1])
		}
		if got := PhaseOf(place, false); string(got) != row[2] {
			t.Errorf("%s, lock free: %q in the code, %q in the document", place, got, row[2])
		}
	}
	if got := PhaseOf("elsewhere", false); got != Gone {
		t.Errorf("a place that is not in the table: %q", got)
	}
}

func TestMovesAreThoseOfTheDocument(t *testing.T) {
	documented := map[[2]Place]bool{}
	for _, row := range docTable(t, "Moves") {
		documented[[2]Place{Place(row[0]), Place(row[1])}] = row[2] == "yes"
	}
	for _, from := range Places() {
		for _, to := range Places() {
			m, possible := moveOf(from, to)
			durable, isDocumented := documented[[2]Place{from, to}]
			if possible != isDocumented || m.durable != durable {
				t.Errorf("%s to %s: possible %v, durable %v in the code; %v, %v in the document", from, to, possible, m.durable, isDocumented, durable)
			}
		}
	}
}

func TestMovesGoForward(t *testing.T) {
	order := map[Place]int{}
	for i, place := range Places() {
		order[place] = i
	}
	for _, m := range moveTable() {
		if order[m.from] >= order[m.to] {
			t.Errorf("%s to %s goes back: who lists pods could miss one", m.from, m.to)
		}
	}
}
