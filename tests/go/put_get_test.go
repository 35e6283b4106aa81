package bowstring

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestPutAndGet(t *testing.T) {
	for _, shape := range [][]int{{}, {1}, {768}, {3, 4}, {5, 1, 2, 3}, {0}, {0, 3}} {
		s := newSpace(t)
		one := sample("float32", shape...)
		key := string(encoded(object{"shape": shape}))
		result := s.put(key, one)
		if result.Stored != 1 || result.Existed != 0 || result.Bytes != int64(len(one.data)) || result.Version == "" {
			t.Errorf("%v: %+v", shape, result)
		}
		schema, chunks := s.get(object{"key": key})
		if got := tensorOf(schema, chunks); !got.same(one) {
			t.Errorf("put %v, got %v %v", one.shape, got.dtype, got.shape)
		}
		metadata := schema.Metadata().ToMap()
		want := map[string]string{
			"tensor.namespace": s.namespace, "tensor.key": key, "tensor.version": result.Version, "tensor.checksum": one.checksum(),
		}
		for name, value := range want {
			if metadata[name] != value {
				t.Errorf("%s is %q, not %q", name, metadata[name], value)
			}
		}
	}
}

// Arrow's Go library knows no lists of size 0, neither to put nor to read. As a plain column they go both ways.
func TestEmptyCells(t *testing.T) {
	s := newSpace(t)
	for key, shape := range map[string][]int{"a": {3, 0}, "b": {2, 0, 4}} {
		plain := arrow.NewSchema([]arrow.Field{{Name: "tensor", Type: arrow.PrimitiveTypes.Float32}}, metadataOf("tensor.shape", shape))
		if _, err := put(t.Context(), s.client, path(s.namespace, key), plain); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.tryGet(object{"key": key}); err == nil {
			t.Error("the Go library can read lists of size 0 now: say so in docs/clients/go.md")
		}
		if got := tensorOf(s.get(object{"key": key, "layout": "flat"})); !got.same(tensor{"float32", shape, nil}) {
			t.Errorf("put %v, got %v %v", shape, got.dtype, got.shape)
		}
	}
}

func TestPutByPath(t *testing.T) {
	s := newSpace(t)
	one := sample("int16", 2, 3)
	if _, err := s.try(path(s.namespace, "a"), one); err != nil {
		t.Fatal(err)
	}
	if got := tensorOf(s.get(object{"key": "a"})); !got.same(one) {
		t.Error("not what was put")
	}
}

// A stream may come in several batches, one of them empty, or in none at all.
func TestPutOfSeveralBatches(t *testing.T) {
	s := newSpace(t)
	one := sample("float64", 10, 3)
	if _, err := s.try(path(s.namespace, "a"), one.rows(0, 4), one.rows(4, 4), one.rows(4, 10)); err != nil {
		t.Fatal(err)
	}
	if got := tensorOf(s.get(object{"key": "a"})); !got.same(one) {
		t.Error("not what was put")
	}
	if _, err := put(t.Context(), s.client, path(s.namespace, "none"), one.schema()); err != nil {
		t.Fatal(err)
	}
	if got := tensorOf(s.get(object{"key": "none"})); !got.same(sample("float64", 0, 3)) {
		t.Errorf("no batch at all is %v", got.shape)
	}
}

// A slice's offset is not sent, or is taken into account: what the Go library makes of it is right.
func TestPutOfASlice(t *testing.T) {
	s := newSpace(t)
	one := sample("int32", 10, 3)
	slice := one.batch(one.schema()).NewSlice(3, 7)
	if _, err := put(t.Context(), s.client, path(s.namespace, "a"), slice.Schema(), slice); err != nil {
		t.Fatal(err)
	}
	if got := tensorOf(s.get(object{"key": "a"})); !got.same(one.rows(3, 7)) {
		t.Error("not the slice that was put")
	}
}

// All of them are [4, 3] of int32, without an extension type.
func TestPutOfPlainLists(t *testing.T) {
	s := newSpace(t)
	one := sample("int32", 4, 3)
	builders := map[string]array.Builder{
		"fixed":  array.NewFixedSizeListBuilder(memory.DefaultAllocator, 3, arrow.PrimitiveTypes.Int32),
		"list":   array.NewListBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Int32),
		"large":  array.NewLargeListBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Int32),
		"nested": array.NewFixedSizeListBuilder(memory.DefaultAllocator, 3, arrow.FixedSizeListOf(1, arrow.PrimitiveTypes.Int32)),
	}
	elements := arrow.Int32Traits.CastFromBytes(one.data)
	for name, builder := range builders {
		lists := builder.(array.ListLikeBuilder)
		for row := range 4 {
			lists.Append(true)
			for _, value := range elements[row*3 : row*3+3] {
				if inner, ok := lists.ValueBuilder().(*array.FixedSizeListBuilder); ok {
					inner.Append(true)
					inner.ValueBuilder().(*array.Int32Builder).Append(value)
				} else {
					lists.ValueBuilder().(*array.Int32Builder).Append(value)
				}
			}
		}
		column := builder.NewArray()
		schema := arrow.NewSchema([]arrow.Field{{Name: "any name", Type: column.DataType(), Nullable: true}}, nil)
		batch := array.NewRecordBatch(schema, []arrow.Array{column}, 4)
		if _, err := put(t.Context(), s.client, path(s.namespace, name), schema, batch); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := one
		if name == "nested" {
			want.shape = []int{4, 3, 1}
		}
		if got := tensorOf(s.get(object{"key": name})); !got.same(want) {
			t.Errorf("%s: %v", name, got.shape)
		}
	}
}

func TestWhatAGetReturnedCanBePut(t *testing.T) {
	s := newSpace(t)
	one := sample("complex64", 4, 3)
	s.putAs(object{"key": "a", "metadata": object{"model": "m1"}}, one)
	schema, chunks := s.get(object{"key": "a"})
	if value, _ := schema.Metadata().GetValue("user.model"); value != "m1" {
		t.Errorf("user.model is %q", value)
	}
	if _, err := put(t.Context(), s.client, path(s.namespace, "b"), schema, chunks[0]); err != nil {
		t.Fatal(err)
	}
	schema, chunks = s.get(object{"key": "b"})
	if got := tensorOf(schema, chunks); !got.same(one) {
		t.Error("the copy differs")
	}
	if value, _ := schema.Metadata().GetValue("user.model"); value != "m1" {
		t.Error("the copy has lost its metadata")
	}
}

func TestRows(t *testing.T) {
	s := newSpace(t)
	one := sample("float32", 10, 3)
	s.put("a", one)
	for _, rows := range [][]int{{0, 10}, {2, 5}, {9, 10}, {4, 4}} {
		schema, chunks := s.get(object{"key": "a", "rows": rows})
		if got := tensorOf(schema, chunks); !got.same(one.rows(rows[0], rows[1])) {
			t.Errorf("%v: %v", rows, got.shape)
		}
		if schema.Metadata().FindKey("tensor.checksum") >= 0 {
			t.Error("a checksum of the whole beside a part")
		}
	}
	for _, rows := range [][]int{{5, 4}, {0, 11}, {11, 11}} {
		_, _, err := s.tryGet(object{"key": "a", "rows": rows})
		s.refused(err, "invalid_argument", "rows")
	}
}

func TestVersions(t *testing.T) {
	s := newSpace(t)
	first := s.put("a", sample("int8", 3)).Version
	_, _, err := s.tryGet(object{"key": "a", "unless_version": first})
	s.refused(err, "not_modified")
	second := s.putAs(object{"key": "a", "mode": "replace", "if_version": first}, sample("int8", 4)).Version
	if got := tensorOf(s.get(object{"key": "a", "unless_version": first})); !got.same(sample("int8", 4)) {
		t.Error("not the tensor that has replaced it")
	}
	_, _, err = s.tryGet(object{"key": "a", "version": first})
	s.refused(err, "failed_precondition", second)
	_, err = s.try(command(s.within(object{"key": "a", "mode": "replace", "if_version": first})), sample("int8", 5))
	s.refused(err, "failed_precondition", "version")
}

func TestModes(t *testing.T) {
	s := newSpace(t)
	one, other := sample("float32", 3), sample("int8", 3)
	first := s.put("a", one)
	if again := s.put("a", one); again.Stored != 0 || again.Existed != 1 || again.Version != first.Version {
		t.Errorf("the same again: %+v", again)
	}
	_, err := s.try(path(s.namespace, "a"), other)
	s.refused(err, "already_exists", "a")
	if kept := s.putAs(object{"key": "a", "mode": "keep"}, other); kept.Existed != 1 || kept.Version != first.Version {
		t.Errorf("keep: %+v", kept)
	}
	if got := tensorOf(s.get(object{"key": "a"})); !got.same(one) {
		t.Error("the first value has gone")
	}
	if replaced := s.putAs(object{"key": "a", "mode": "replace"}, other); replaced.Stored != 1 || replaced.Version == first.Version {
		t.Errorf("replace: %+v", replaced)
	}
	if got := tensorOf(s.get(object{"key": "a"})); !got.same(other) {
		t.Error("not what has replaced it")
	}
}

func TestChecksumsAndSizes(t *testing.T) {
	s := newSpace(t)
	one := sample("uint16", 7, 5)
	s.putAs(object{"key": "a", "checksum": one.checksum(), "size_bytes": len(one.data)}, one)
	_, err := s.try(command(s.within(object{"key": "b", "checksum": strings.Repeat("0", 32)})), one)
	s.refused(err, "data_loss", "checksum")
	_, err = s.try(command(s.within(object{"key": "b", "size_bytes": 1})), one)
	s.refused(err, "invalid_argument", "size_bytes")
	_, _, err = s.tryGet(object{"key": "b"})
	s.refused(err, "not_found")
}

// What the first message shows is refused before the rest is sent: the writer sees io.EOF, and Recv says why.
func TestEarlyRefusal(t *testing.T) {
	s := newSpace(t)
	one := sample("float32", 256, 1024)
	s.put("a", one)
	for members, code := range map[*object]string{
		{"key": "a", "if_version": "1"}:        "failed_precondition",
		{"key": "b", "namespace": "not legal"}: "invalid_argument",
		{"key": "b", "size_bytes": 1 << 40}:    "resource_exhausted",
		{"key": "b", "load_id": "1-1"}:         "not_found",
	} {
		stream, err := s.client.DoPut(t.Context())
		s.must(err)
		schema := one.schema()
		writer := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
		writer.SetFlightDescriptor(command(s.within(*members)))
		sent := 0
		for batch := one.batch(schema); err == nil && sent < 1024; sent++ {
			err = writer.Write(batch)
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v after %d batches of 1 MiB", code, err, sent)
		}
		_, err = stream.Recv()
		s.refused(err, code)
	}
	s.act("delete", object{"prefix": ""})
}

func TestBatchesOfOtherColumnsAreRefusedHereAndStoreNothing(t *testing.T) {
	s := newSpace(t)
	one, other := sample("int8", 3), sample("int16", 3)
	_, err := put(t.Context(), s.client, path(s.namespace, "a"), one.schema(), one.batch(one.schema()), other.batch(other.schema()))
	if err == nil {
		t.Error("a batch of another schema was written")
	}
	_, _, err = s.tryGet(object{"key": "a"})
	s.refused(err, "not_found")
}

func TestTimeToLive(t *testing.T) {
	s := newSpace(t)
	s.putAs(object{"key": "a", "ttl_ms": 1}, sample("int8", 3))
	s.putAs(object{"key": "b", "ttl_ms": 1_000_000}, sample("int8", 3))
	for {
		_, _, err := s.tryGet(object{"key": "a"})
		if err != nil {
			s.refused(err, "not_found")
			break
		}
	}
	row := s.act("describe", object{"keys": []string{"b"}})["keys"].([]any)[0].(object)
	if left := row["ttl_ms"].(float64); left <= 0 || left > 1_000_000 {
		t.Errorf("ttl_ms is %v", left)
	}
}

// As with tickets: the server's JSON is read, whatever Go's encoder escapes.
func TestKeysOfAnyCharacters(t *testing.T) {
	s := newSpace(t)
	for _, key := range []string{"<a&b>", "ä/ö\\\"", "\u2028", "🎯", strings.Repeat("k", 1024)} {
		one := sample("int8", len(key))
		s.put(key, one)
		schema, chunks := s.get(object{"key": key})
		if got := tensorOf(schema, chunks); !got.same(one) {
			t.Errorf("%q: another tensor", key)
		}
		if seen, _ := schema.Metadata().GetValue("tensor.key"); seen != key {
			t.Errorf("%q came back as %q", key, seen)
		}
	}
	_, chunks := s.get(object{"prefix": "🎯", "dtype": "int8", "shape": []int{4}})
	if text, _ := json.Marshal(keysOf(chunks)); string(text) != `["🎯"]` {
		t.Error(string(text))
	}
}
