package bowstring

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

// entry is a line of the golden vectors: a stream, and the tensor that it is, or the code that it is answered with.
type entry struct {
	File, Dtype, Data, Code, Key, Layout string
	Shape                                []int
	Command                              object
	Rows                                 []struct {
		entry
		Row *int64
	}
}

func (e entry) tensor(t *testing.T) tensor {
	t.Helper()
	data, err := hex.DecodeString(e.Data)
	if err != nil {
		t.Fatal(err)
	}
	return tensor{e.Dtype, e.Shape, data}
}

// vectors reads a list of streams through Go's own reader. Lists of size 0 it cannot read.
func vectors(t *testing.T, name string) (entries []entry, schemas []*arrow.Schema, batches [][]arrow.RecordBatch) {
	t.Helper()
	folder := filepath.Join(repository(), "proto-notes", "vectors")
	text, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []entry
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		stream, err := os.ReadFile(filepath.Join(folder, one.File))
		if err != nil {
			t.Fatal(err)
		}
		schema, read, err := ipcStream(stream)
		if err != nil {
			if len(one.Shape) < 2 || product(one.Shape[1:]) != 0 {
				t.Errorf("%s: %v", one.File, err)
			}
			continue
		}
		entries, schemas, batches = append(entries, one), append(schemas, schema), append(batches, read)
	}
	if len(entries) < len(all)/2 {
		t.Errorf("only %d of %d vectors were read", len(entries), len(all))
	}
	return entries, schemas, batches
}

// What PyArrow has written is read by Go, written again by Go, and stored as it should be.
func TestVectorsOfPuts(t *testing.T) {
	s := newSpace(t)
	entries, schemas, batches := vectors(t, "put")
	for at, one := range entries {
		_, err := put(t.Context(), s.client, path(s.namespace, one.File), schemas[at], batches[at]...)
		if one.Code != "" {
			s.refused(err, one.Code)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", one.File, err)
			continue
		}
		if got := tensorOf(s.get(object{"key": one.File, "layout": "flat"})); !got.same(one.tensor(t)) {
			t.Errorf("%s: got %s %v", one.File, got.dtype, got.shape)
		}
	}
}

func TestVectorsOfBulkPuts(t *testing.T) {
	entries, schemas, batches := vectors(t, "bulk")
	for at, one := range entries {
		s := newSpace(t)
		if one.Command == nil {
			one.Command = object{}
		}
		result, err := put(t.Context(), s.client, command(s.within(one.Command)), schemas[at], batches[at]...)
		if err != nil {
			t.Errorf("%s: %v", one.File, err)
			continue
		}
		var wrong, found []string
		for _, row := range result.Errors {
			found = append(found, fmt.Sprint(row.Row, " ", row.Code))
		}
		for _, row := range one.Rows {
			if row.Code != "" {
				wrong = append(wrong, fmt.Sprint(*row.Row, " ", row.Code))
			} else if got := tensorOf(s.get(object{"key": row.Key, "layout": "flat"})); !got.same(row.tensor(t)) {
				t.Errorf("%s, %s: got %s %v", one.File, row.Key, got.dtype, got.shape)
			}
		}
		if fmt.Sprint(wrong) != fmt.Sprint(found) {
			t.Errorf("%s: %v, not %v", one.File, found, wrong)
		}
		s.act("clear", object{"confirm": true})
	}
}

// What the server sends is read by Go.
func TestVectorsOfGets(t *testing.T) {
	entries, schemas, batches := vectors(t, "get")
	for at, one := range entries {
		if one.Rows != nil || one.Layout == "" {
			continue
		}
		var chunks []chunk
		for _, batch := range batches[at] {
			chunks = append(chunks, chunk{RecordBatch: batch})
		}
		got := tensor{}
		if one.Layout == "opaque" {
			got = opaque(chunks[0], 0)
		} else {
			got = tensorOf(schemas[at], chunks)
		}
		if !got.same(one.tensor(t)) {
			t.Errorf("%s: got %s %v", one.File, got.dtype, got.shape)
		}
	}
}
