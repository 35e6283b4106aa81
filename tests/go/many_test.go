package bowstring

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// snippet: missing
// missingOf joins what the closing batches name: `missing` of a get of keys, `gone` of a prefix. A stream without a
// closing batch is not complete.
func missingOf(chunks []chunk) (missing []string, complete bool) {
	for _, chunk := range chunks {
		if chunk.said == nil {
			continue
		}
		var closing struct{ Missing, Gone []string }
		if json.Unmarshal(chunk.said, &closing) == nil {
			missing, complete = append(missing, append(closing.Missing, closing.Gone...)...), true
		}
	}
	return missing, complete
}

// snippet end

func filled(t *testing.T) (*space, tensor) {
	s := newSpace(t)
	all := sample("float32", 4, 2, 3)
	s.bulk(nil, keyed([]string{"a", "b", "c", "d"}, all))
	return s, all
}

func TestKeysInTheOrderAskedAndTheMissingOnes(t *testing.T) {
	s, all := filled(t)
	schema, chunks := s.get(object{"keys": []string{"d", "no", "a", "d", "nor"}})
	if got := keysOf(chunks); !slices.Equal(got, []string{"d", "a", "d"}) {
		t.Errorf("%v", got)
	}
	want := tensor{"float32", []int{3, 2, 3}, slices.Concat(all.cell(3).data, all.cell(0).data, all.cell(3).data)}
	if got := tensorsOf(chunks, "float32", 2, 3); !got.same(want) {
		t.Error("other tensors")
	}
	last := chunks[len(chunks)-1]
	if last.NumRows() != 0 || string(last.said) != `{"missing":["no","nor"]}` {
		t.Errorf("%d rows with %s", last.NumRows(), last.said)
	}
	if missing, complete := missingOf(chunks); !complete || !slices.Equal(missing, []string{"no", "nor"}) {
		t.Errorf("%v %v", missing, complete)
	}
	field := schema.Field(1)
	if field.Metadata.ToMap()["ARROW:extension:metadata"] != `{"shape":[2,3]}` || field.Nullable {
		t.Errorf("%v", field)
	}
}

func TestNothingMissing(t *testing.T) {
	s, _ := filled(t)
	_, chunks := s.get(object{"keys": []string{"a"}})
	if missing, complete := missingOf(chunks); len(missing) > 0 || !complete {
		t.Errorf("%v %v", missing, complete)
	}
}

func TestNothingFound(t *testing.T) {
	s := newSpace(t)
	schema, chunks := s.get(object{"keys": []string{"x", "y"}})
	if kind := schema.Field(1).Type; kind.ID() != arrow.NULL {
		t.Errorf("%v", kind)
	}
	if missing, _ := missingOf(chunks); !slices.Equal(missing, []string{"x", "y"}) {
		t.Errorf("%v", missing)
	}
	schema, _ = s.get(object{"keys": []string{"x"}, "dtype": "int8", "shape": []int{3}})
	if kind := schema.Field(1).Type; !arrow.TypeEqual(kind, arrow.FixedSizeListOfNonNullable(3, arrow.PrimitiveTypes.Int8)) {
		t.Errorf("%v", kind)
	}
}

func TestARowForEachKey(t *testing.T) {
	s, all := filled(t)
	schema, chunks := s.get(object{"keys": []string{"no", "b", "nor"}, "missing": "null"})
	if len(chunks) != 1 || !schema.Field(1).Nullable {
		t.Fatalf("%d chunks of %v", len(chunks), schema)
	}
	column := chunks[0].Column(1)
	if column.Len() != 3 || !column.IsNull(0) || column.IsNull(1) || !column.IsNull(2) {
		t.Errorf("%v", column)
	}
	if got := tensorsOf(chunks, "float32", 2, 3); !got.cell(1).same(all.cell(1)) {
		t.Error("another tensor")
	}
	if _, complete := missingOf(chunks); complete {
		t.Error("there is a closing batch, too")
	}
}

func TestSeveralMessages(t *testing.T) {
	s := newSpace(t)
	all := sample("int32", 100, 64)
	keys := names("k", 100)
	s.bulk(nil, keyed(keys, all))
	asked := append(slices.Clone(keys), names("missing", 200)...)
	_, chunks := s.get(object{"keys": asked, "max_message_bytes": 1024})
	if len(chunks) < 25+3 {
		t.Errorf("%d messages of 1 KiB for 25 KiB", len(chunks))
	}
	if got := tensorsOf(chunks, "int32", 64); !got.same(all) {
		t.Error("other tensors")
	}
	if missing, _ := missingOf(chunks); !slices.Equal(missing, names("missing", 200)) {
		t.Errorf("%d missing", len(missing))
	}
}

func TestColumnsBesideTheTensor(t *testing.T) {
	s := newSpace(t)
	one := sample("int16", 5)
	version := s.putAs(object{"key": "a", "metadata": object{"model": "m1"}, "ttl_ms": 1_000_000}, one).Version
	_, chunks := s.get(object{"keys": []string{"a"}, "with": []string{"version", "checksum", "metadata", "ttl_ms"}})
	row := chunks[0]
	if got := row.Column(2).(*array.String).Value(0); got != version {
		t.Error(got)
	}
	if got := row.Column(3).(*array.String).Value(0); got != one.checksum() {
		t.Error(got)
	}
	metadata := row.Column(4).(*array.Map)
	if got := metadata.Keys().(*array.String).Value(0) + metadata.Items().(*array.String).Value(0); got != "modelm1" {
		t.Error(got)
	}
	if left := row.Column(5).(*array.Int64).Value(0); left <= 0 || left > 1_000_000 {
		t.Error(left)
	}
	// What was read so can be put as it is, into another namespace.
	there := command(object{"namespace": s.namespace + ".copy"})
	result, err := put(t.Context(), s.client, there, row.Schema(), row.RecordBatch)
	if err != nil || result.Stored != 1 || result.ErrorsTotal != 0 {
		t.Errorf("%+v %v", result, err)
	}
}

func TestOpaque(t *testing.T) {
	s := newSpace(t)
	tensors := map[string]tensor{"a": sample("int8", 3), "b": sample("bfloat16", 2, 2), "c": sample("complex128"), "d": sample("float64", 0, 3)}
	for key, one := range tensors {
		s.put(key, one)
	}
	_, chunks := s.get(object{"prefix": ""})
	if _, complete := missingOf(chunks); !complete {
		t.Error("no closing batch")
	}
	seen := 0
	for _, chunk := range chunks {
		for row := range int(chunk.NumRows()) {
			got := opaque(chunk, row)
			if key := chunk.Column(0).(*array.String).Value(row); !got.same(tensors[key]) {
				t.Errorf("%s is %s %v", key, got.dtype, got.shape)
			}
			seen++
		}
	}
	if seen != len(tensors) {
		t.Errorf("%d rows", seen)
	}
}

// opaque is one row of the `opaque` layout: any dtype, any shape.
func opaque(batch arrow.RecordBatch, row int) tensor {
	one := tensor{dtype: batch.Column(1).(*array.String).Value(row), shape: []int{}}
	shapes := batch.Column(2).(*array.List)
	start, end := shapes.ValueOffsets(row)
	for _, axis := range shapes.ListValues().(*array.Int64).Int64Values()[start:end] {
		one.shape = append(one.shape, int(axis))
	}
	one.data = batch.Column(3).(*array.LargeBinary).Value(row)
	return one
}

func TestPrefix(t *testing.T) {
	s := newSpace(t)
	s.bulk(nil, keyed([]string{"user/1", "user/2", "item/1"}, sample("float32", 3, 2)))
	s.put("user/3", sample("int8", 7))
	_, chunks := s.get(object{"prefix": "user/"})
	if got := keysOf(chunks); !slices.Equal(got, []string{"user/1", "user/2", "user/3"}) {
		t.Errorf("%v", got)
	}
	_, chunks = s.get(object{"prefix": "user/", "dtype": "float32", "shape": []int{2}})
	if got := keysOf(chunks); !slices.Equal(got, []string{"user/1", "user/2"}) {
		t.Errorf("%v", got)
	}
}

func TestTensorsThatDiffer(t *testing.T) {
	s, _ := filled(t)
	s.put("e", sample("int8", 2, 3))
	_, _, err := s.tryGet(object{"keys": []string{"a", "e"}})
	s.refused(err, "failed_precondition", "float32", "int8")
	_, chunks := s.get(object{"keys": []string{"e", "a"}, "layout": "opaque"})
	if got := fmt.Sprint(opaque(chunks[0], 0).dtype, " ", opaque(chunks[0], 1).dtype); got != "int8 float32" {
		t.Error(got)
	}
}

func TestTenThousandKeysAndOneMore(t *testing.T) {
	s := newSpace(t)
	_, chunks := s.get(object{"keys": names("k", 10_000)})
	if missing, _ := missingOf(chunks); len(missing) != 10_000 {
		t.Errorf("%d missing", len(missing))
	}
	_, _, err := s.tryGet(object{"keys": names("k", 10_001)})
	code, _ := codeOf(err)
	if code != "invalid_argument" && code != "resource_exhausted" {
		t.Error(err)
	}
}
