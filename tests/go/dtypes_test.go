package bowstring

import (
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

func TestEveryDtype(t *testing.T) {
	for _, dtype := range dtypes() {
		s := newSpace(t)
		for rank, shape := range [][]int{{}, {5}, {3, 4}, {2, 3, 4}} {
			one, key := sample(dtype, shape...), fmt.Sprint(dtype, rank)
			s.put(key, one)
			for _, layout := range []string{"rows", "flat"} {
				schema, chunks := s.get(object{"key": key, "layout": layout})
				if got := tensorOf(schema, chunks); !got.same(one) {
					t.Errorf("%s %v %s: got %s %v", dtype, shape, layout, got.dtype, got.shape)
				}
				if named := schema.Field(0).Metadata.ToMap()["tensor.dtype"]; named != one.field().Metadata.ToMap()["tensor.dtype"] {
					t.Errorf("%s: the field says %q", dtype, named)
				}
			}
			_, chunks := s.get(object{"key": key, "layout": "opaque"})
			if got := opaque(chunks[0], 0); !got.same(one) {
				t.Errorf("%s %v opaque: got %s %v", dtype, shape, got.dtype, got.shape)
			}
		}
		s.covered("dtypes_test.go", dtype)
	}
}

// Booleans may come as Arrow's bits, alone and in lists, and as bool8; they are bytes of 0 and 1 afterwards.
func TestBooleans(t *testing.T) {
	s := newSpace(t)
	bools := []bool{true, false, false, true, true, true, false, true, false, true}
	want := tensor{"bool", []int{10}, unsafe.Slice((*byte)(unsafe.Pointer(&bools[0])), 10)}
	bits := array.NewBooleanBuilder(memory.DefaultAllocator)
	bits.AppendValues(bools, nil)
	lists := array.NewFixedSizeListBuilder(memory.DefaultAllocator, 5, arrow.FixedWidthTypes.Boolean)
	for row := range 2 {
		lists.Append(true)
		lists.ValueBuilder().(*array.BooleanBuilder).AppendValues(bools[row*5:row*5+5], nil)
	}
	bool8 := tensorColumn(arrow.PrimitiveTypes.Int8, 10, []byte{1, 0, 0, 7, 1, 255, 0, 1, 0, 1})
	for key, column := range map[string]arrow.Array{"bits": bits.NewArray(), "lists": lists.NewArray(), "bool8": bool8} {
		field := arrow.Field{Name: "tensor", Type: column.DataType()}
		if key == "bool8" {
			field.Metadata = arrow.NewMetadata([]string{"ARROW:extension:name"}, []string{"arrow.bool8"})
		}
		schema := arrow.NewSchema([]arrow.Field{field}, nil)
		batch := array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
		if _, err := put(t.Context(), s.client, path(s.namespace, key), schema, batch); err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		want := want
		if key == "lists" {
			want.shape = []int{2, 5}
		}
		if got := tensorOf(s.get(object{"key": key})); !got.same(want) {
			t.Errorf("%s: %v", key, got)
		}
	}
	wrong := tensor{"bool", []int{2}, []byte{1, 2}}
	_, err := s.try(path(s.namespace, "wrong"), wrong)
	s.refused(err, "invalid_argument", "bool")
}

func TestTypesThatAreRefused(t *testing.T) {
	s := newSpace(t)
	for _, kind := range []arrow.DataType{
		arrow.FixedWidthTypes.Date32, arrow.BinaryTypes.String, &arrow.Decimal128Type{Precision: 9}, arrow.FixedWidthTypes.Timestamp_ms,
		arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8}),
	} {
		builder := array.NewBuilder(memory.DefaultAllocator, kind)
		builder.AppendEmptyValue()
		schema := arrow.NewSchema([]arrow.Field{{Name: "tensor", Type: kind}}, nil)
		batch := array.NewRecordBatch(schema, []arrow.Array{builder.NewArray()}, 1)
		_, err := put(t.Context(), s.client, path(s.namespace, "a"), schema, batch)
		s.refused(err, "invalid_argument")
	}
}

func TestNullsAreRefused(t *testing.T) {
	s := newSpace(t)
	builder := array.NewInt32Builder(memory.DefaultAllocator)
	builder.AppendValues([]int32{1, 2, 3}, []bool{true, false, true})
	schema := arrow.NewSchema([]arrow.Field{{Name: "tensor", Type: arrow.PrimitiveTypes.Int32, Nullable: true}}, nil)
	_, err := put(t.Context(), s.client, path(s.namespace, "a"), schema, array.NewRecordBatch(schema, []arrow.Array{builder.NewArray()}, 3))
	s.refused(err, "invalid_argument", "null")
}

// fixedShape is what a user may register, so that arrays come as such: arrow-go has no type of its own for tensors.
type fixedShape struct {
	arrow.ExtensionBase
	text string
}

type fixedShapeArray struct{ array.ExtensionArrayBase }

func (*fixedShape) ExtensionName() string { return "arrow.fixed_shape_tensor" }
func (f *fixedShape) Serialize() string   { return f.text }
func (*fixedShape) ArrayType() reflect.Type {
	return reflect.TypeFor[fixedShapeArray]()
}

func (f *fixedShape) ExtensionEquals(other arrow.ExtensionType) bool {
	return other.ExtensionName() == f.ExtensionName() && other.Serialize() == f.text
}

func (*fixedShape) Deserialize(storage arrow.DataType, text string) (arrow.ExtensionType, error) {
	return &fixedShape{arrow.ExtensionBase{Storage: storage}, text}, nil
}

func TestARegisteredExtensionType(t *testing.T) {
	s := newSpace(t)
	one := sample("float16", 5, 2, 3)
	if err := arrow.RegisterExtensionType(&fixedShape{}); err != nil {
		t.Fatal(err)
	}
	defer func() { s.must(arrow.UnregisterExtensionType("arrow.fixed_shape_tensor")) }()
	kind := &fixedShape{arrow.ExtensionBase{Storage: one.column().DataType()}, `{"shape":[2,3]}`}
	schema := arrow.NewSchema([]arrow.Field{{Name: "tensor", Type: kind}}, nil)
	column := array.NewExtensionArrayWithStorage(kind, one.column())
	_, err := put(t.Context(), s.client, path(s.namespace, "a"), schema, array.NewRecordBatch(schema, []arrow.Array{column}, 5))
	s.must(err)
	_, chunks := s.get(object{"key": "a"})
	got, ok := chunks[0].Column(0).(*fixedShapeArray)
	if !ok || got.DataType().(*fixedShape).text != `{"shape":[2,3]}` {
		t.Fatalf("%v", chunks[0].Schema())
	}
	if bytes := values(got.Storage().Data()); string(bytes) != string(one.data) {
		t.Error("other bytes")
	}
}
