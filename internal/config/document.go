package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// version is the only rktVersion of every kind.
const version = "v1"

// document is one file whose kind and version are known.
type document struct {
	path string
	kind string
	data []byte
}

// header is part of every kind, so that strict decoding knows its fields.
type header struct {
	Kind    string `json:"rktKind"`
	Version string `json:"rktVersion"`
}

func parseDocument(path string, data []byte) (*document, error) {
	var head header
	if err := decode(data, &head, false); err != nil {
		return nil, err
	}
	if head.Kind == "" {
		return nil, errors.New("field \"rktKind\" is missing")
	}
	if head.Version == "" {
		return nil, errors.New("field \"rktVersion\" is missing")
	}
	if head.Version != version {
		return nil, fmt.Errorf("field \"rktVersion\" is %q, this rkt reads only %q", head.Version, version)
	}
	return &document{path: path, kind: head.Kind, data: data}, nil
}

// read fills the struct of a kind and refuses fields that the kind lacks.
func (d *document) read(into any) error { return decode(d.data, into, true) }

func decode(data []byte, into any, strict bool) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(into); err != nil {
		return explain(data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the end of the JSON object")
	}
	return nil
}

// explain turns errors of encoding/json into sentences that name the field or
// the line.
func explain(data []byte, err error) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return fmt.Errorf("it holds a JSON %s instead of an object", wrongType.Value)
	case errors.As(err, &wrongType):
		return fmt.Errorf("field %q holds a JSON %s, expected is a %s", wrongType.Field, wrongType.Value, wrongType.Type.Kind())
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d is not JSON: %w", lineAt(data, syntax.Offset), err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends before its JSON object does")
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("field %s is unknown", field)
	}
	return err
}

func lineAt(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n"))
}
