package bowstring

import (
	"fmt"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// bulk puts rows into the space's namespace.
func (s *space) bulk(members object, batches ...arrow.RecordBatch) putResult {
	s.Helper()
	result, err := put(s.Context(), s.client, command(s.within(members)), batches[0].Schema(), batches...)
	s.must(err)
	return result
}

// names are `prefix0`, `prefix1`, ...
func names(prefix string, count int) []string {
	all := make([]string, count)
	for at := range all {
		all[at] = fmt.Sprintf("%s%d", prefix, at)
	}
	return all
}

func TestBulk(t *testing.T) {
	s := newSpace(t)
	all := sample("float32", 20_000, 50)
	keys := names("word ", 20_000)
	batches := []arrow.RecordBatch{keyed(keys[:16_384], all.rows(0, 16_384)), keyed(keys[16_384:], all.rows(16_384, 20_000))}
	result := s.bulk(nil, batches...)
	if result.Stored != 20_000 || result.Existed != 0 || result.Bytes != 4_000_000 || result.ErrorsTotal != 0 || result.Version != "" {
		t.Errorf("%+v", result)
	}
	if again := s.bulk(nil, batches...); again.Stored != 0 || again.Existed != 20_000 {
		t.Errorf("the same again: %+v", again)
	}
	if got := tensorOf(s.get(object{"key": "word 17000"})); !got.same(all.cell(17_000)) {
		t.Error("another row's tensor")
	}
	_, chunks := s.get(object{"prefix": "", "dtype": "float32", "shape": []int{50}})
	if got := keysOf(chunks); !slices.Equal(got, slices.Sorted(slices.Values(keys))) {
		t.Errorf("%d keys, or not in key order", len(got))
	}
}

func TestBulkOfEveryDtype(t *testing.T) {
	for _, dtype := range dtypes() {
		s := newSpace(t)
		all := sample(dtype, 5, 2, 3)
		keys := names(dtype, 5)
		s.bulk(nil, keyed(keys, all))
		_, chunks := s.get(object{"keys": keys})
		if got := tensorsOf(chunks, dtype, 2, 3); !got.same(all) {
			t.Errorf("%s: not what was put", dtype)
		}
		if got := tensorOf(s.get(object{"key": keys[4]})); !got.same(all.cell(4)) {
			t.Errorf("%s: one row differs", dtype)
		}
		s.covered("bulk_test.go", dtype)
	}
}

func TestBulkOfScalars(t *testing.T) {
	s := newSpace(t)
	all := sample("int64", 3)
	s.bulk(nil, keyed([]string{"a", "b", "c"}, all))
	schema, chunks := s.get(object{"key": "b"})
	if got := tensorOf(schema, chunks); !got.same(all.cell(1)) {
		t.Errorf("%v", got.shape)
	}
	schema, chunks = s.get(object{"keys": []string{"c", "a"}})
	if kind := schema.Field(1).Type; kind != arrow.PrimitiveTypes.Int64 {
		t.Errorf("scalars came as %v", kind)
	}
	if got := tensorsOf(chunks, "int64"); !got.same(tensor{"int64", []int{2}, append(slices.Clone(all.data[16:]), all.data[:8]...)}) {
		t.Error("other scalars")
	}
}

func TestBulkKeysOfManyTypes(t *testing.T) {
	all := sample("int16", 2, 3)
	large := array.NewLargeStringBuilder(memory.DefaultAllocator)
	large.AppendValues([]string{"ä", "b"}, nil)
	integers := array.NewInt64Builder(memory.DefaultAllocator)
	integers.AppendValues([]int64{-7, 1 << 60}, nil)
	unsigned := array.NewUint32Builder(memory.DefaultAllocator)
	unsigned.AppendValues([]uint32{0, 1<<32 - 1}, nil)
	binary := array.NewFixedSizeBinaryBuilder(memory.DefaultAllocator, &arrow.FixedSizeBinaryType{ByteWidth: 2})
	binary.AppendValues([][]byte{{0, 255}, {16, 1}}, nil)
	views := array.NewStringViewBuilder(memory.DefaultAllocator)
	views.AppendValues([]string{"a view", "a view that is longer than twelve bytes"}, nil)
	indices := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	dictionary := array.NewDictionaryBuilder(memory.DefaultAllocator, indices).(*array.BinaryDictionaryBuilder)
	for _, key := range []string{"one", "two"} {
		if err := dictionary.AppendString(key); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		keys  arrow.Array
		names []string
	}{
		{texts("a", "b"), []string{"a", "b"}},
		{large.NewArray(), []string{"ä", "b"}},
		{integers.NewArray(), []string{"-7", "1152921504606846976"}},
		{unsigned.NewArray(), []string{"0", "4294967295"}},
		{binary.NewArray(), []string{"00ff", "1001"}},
		{views.NewArray(), []string{"a view", "a view that is longer than twelve bytes"}},
		{dictionary.NewArray(), []string{"one", "two"}},
	} {
		s := newSpace(t)
		fields := []arrow.Field{{Name: "id", Type: one.keys.DataType(), Nullable: true}, all.field()}
		fields[1].Name = "vector"
		batch := array.NewRecordBatch(arrow.NewSchema(fields, nil), []arrow.Array{one.keys, all.column()}, 2)
		s.bulk(object{"key_column": "id", "tensor_column": "vector"}, batch)
		_, chunks := s.get(object{"keys": one.names})
		if got := keysOf(chunks); !slices.Equal(got, one.names) {
			t.Errorf("%v: %v", one.keys.DataType(), got)
		}
		s.act("clear", object{"confirm": true})
	}
}

// A bad row is counted and described, and does not lose the others.
func TestBulkOfBadRows(t *testing.T) {
	s := newSpace(t)
	s.put("taken", sample("int8", 3))
	lists := array.NewListBuilder(memory.DefaultAllocator, arrow.PrimitiveTypes.Int8)
	for _, values := range [][]int8{{1, 2, 3}, {4, 5}, {6, 7, 8}, {9, 9, 9}, {5, 5, 5}} {
		lists.Append(true)
		lists.ValueBuilder().(*array.Int8Builder).AppendValues(values, nil)
	}
	column := lists.NewArray()
	fields := []arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String}, {Name: "tensor", Type: column.DataType()}}
	keys := texts("a", "short", "", "taken", "e")
	result := s.bulk(object{"mode": "create"}, array.NewRecordBatch(arrow.NewSchema(fields, nil), []arrow.Array{keys, column}, 5))
	if result.Stored != 2 || result.ErrorsTotal != 3 || len(result.Errors) != 3 {
		t.Fatalf("%+v", result)
	}
	for at, want := range []string{"1 short invalid_argument", "2  invalid_argument", "3 taken already_exists"} {
		row := result.Errors[at]
		if got := fmt.Sprint(row.Row, " ", row.Key, " ", row.Code); got != want || row.Message == "" {
			t.Errorf("%q, not %q", got, want)
		}
	}
	_, chunks := s.get(object{"keys": []string{"a", "e"}})
	if got := keysOf(chunks); !slices.Equal(got, []string{"a", "e"}) {
		t.Errorf("%v", got)
	}
}

// withColumns adds an expiry and metadata to each row; null is none.
func withColumns(batch arrow.RecordBatch, ttlMs []int64, metadata []map[string]string) arrow.RecordBatch {
	expiries := array.NewInt64Builder(memory.DefaultAllocator)
	maps := array.NewMapBuilder(memory.DefaultAllocator, arrow.BinaryTypes.String, arrow.BinaryTypes.String, false)
	for row := range batch.NumRows() {
		if ttlMs[row] == 0 {
			expiries.AppendNull()
		} else {
			expiries.Append(ttlMs[row])
		}
		maps.Append(true)
		for name, value := range metadata[row] {
			maps.KeyBuilder().(*array.StringBuilder).Append(name)
			maps.ItemBuilder().(*array.StringBuilder).Append(value)
		}
	}
	columns := append(batch.Columns(), expiries.NewArray(), maps.NewArray())
	fields := append(batch.Schema().Fields(),
		arrow.Field{Name: "ttl_ms", Type: columns[len(columns)-2].DataType(), Nullable: true},
		arrow.Field{Name: "metadata", Type: columns[len(columns)-1].DataType()})
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, batch.NumRows())
}

func TestBulkWithExpiryAndMetadata(t *testing.T) {
	s := newSpace(t)
	rows := keyed([]string{"a", "b"}, sample("float32", 2, 4))
	s.bulk(nil, withColumns(rows, []int64{0, 1_000_000}, []map[string]string{{"model": "m1", "n": ""}, {}}))
	described := s.act("describe", object{"keys": []string{"a", "b"}})["keys"].([]any)
	first, second := described[0].(object), described[1].(object)
	if fmt.Sprint(first["metadata"]) != "map[model:m1 n:]" || first["ttl_ms"] != nil {
		t.Errorf("%v", first)
	}
	if left, _ := second["ttl_ms"].(float64); left <= 0 || left > 1_000_000 {
		t.Errorf("%v", second)
	}
}

func TestBulkRefusals(t *testing.T) {
	s := newSpace(t)
	rows := keyed([]string{"a", "b"}, sample("float32", 2, 4))
	extra := withColumns(rows, []int64{0, 0}, []map[string]string{{}, {}})
	renamed := extra.Schema().Fields()
	renamed[2].Name = "colour"
	coloured := array.NewRecordBatch(arrow.NewSchema(renamed, nil), extra.Columns(), 2)
	for _, one := range []struct {
		members object
		code    string
		says    string
		batch   arrow.RecordBatch
	}{
		{nil, "invalid_argument", "colour", coloured},
		{object{"key_column": "word"}, "invalid_argument", "word", rows},
		{object{"checksum": "00"}, "invalid_argument", "checksum", rows},
		{object{"mode": "overwrite"}, "invalid_argument", "overwrite", rows},
	} {
		_, err := put(t.Context(), s.client, command(s.within(one.members)), one.batch.Schema(), one.batch)
		s.refused(err, one.code, one.says)
	}
	if s.bulk(object{"extra_columns": "ignore"}, coloured).Stored != 2 {
		t.Error("an extra column was not ignored")
	}
}
