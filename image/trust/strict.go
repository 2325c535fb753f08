package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// decodeStrict reads one JSON document into a struct. What encoding/json would
// let pass is an error that names the place: a field that the struct does not
// have or that is spelled in another case, a field given twice, data after the
// document's end.
func decodeStrict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := checkFields(dec, reflect.TypeOf(into).Elem(), ""); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is something after the end of the JSON document")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return describe(err)
	}
	return nil
}

// checkFields walks one value as far as the type t knows it.
func checkFields(dec *json.Decoder, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := dec.Token()
	if err != nil {
		return describe(err)
	}
	switch token {
	case json.Delim('{'):
		return checkObject(dec, t, at)
	case json.Delim('['):
		if t.Kind() != reflect.Slice || t.Elem().Kind() == reflect.Uint8 {
			return fmt.Errorf("field %q is an array and must not be one", at)
		}
		for i := 0; dec.More(); i++ {
			if err := checkFields(dec, t.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return closing(dec)
	case nil:
		if at == "" {
			return fmt.Errorf("it must be a JSON object and is null")
		}
		return fmt.Errorf("field %q is null", at)
	}
	return nil
}

func checkObject(dec *json.Decoder, t reflect.Type, at string) error {
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("field %q is an object and must not be one", at)
	}
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return describe(err)
		}
		name, _ := token.(string)
		place := strings.TrimPrefix(at+"."+name, ".")
		next, known := fields[name]
		if !known {
			return fmt.Errorf("field %q is unknown or given twice", place)
		}
		delete(fields, name)
		if err := checkFields(dec, next, place); err != nil {
			return err
		}
	}
	return closing(dec)
}

// closing reads the bracket or brace that ends what was walked.
func closing(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return describe(err)
	}
	return nil
}

// describe words encoding/json's errors without Go's types.
func describe(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return fmt.Errorf("field %q must not be a %s", kind.Field, kind.Value)
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON: %w at byte %d", err, syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it ends before its JSON document does")
	}
	return err
}
