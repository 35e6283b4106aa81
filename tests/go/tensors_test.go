package bowstring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/zeebo/xxh3"
)

// tensor is what is stored: a dtype by its name on the wire, a shape, and the bytes in C order.
type tensor struct {
	dtype string
	shape []int
	data  []byte
}

// storage is the Arrow type that a dtype is kept in; the names that are not Arrow's own stand in field metadata.
var storage = map[string]arrow.DataType{
	"int8":          arrow.PrimitiveTypes.Int8,
	"int16":         arrow.PrimitiveTypes.Int16,
	"int32":         arrow.PrimitiveTypes.Int32,
	"int64":         arrow.PrimitiveTypes.Int64,
	"uint8":         arrow.PrimitiveTypes.Uint8,
	"uint16":        arrow.PrimitiveTypes.Uint16,
	"uint32":        arrow.PrimitiveTypes.Uint32,
	"uint64":        arrow.PrimitiveTypes.Uint64,
	"float16":       arrow.FixedWidthTypes.Float16,
	"float32":       arrow.PrimitiveTypes.Float32,
	"float64":       arrow.PrimitiveTypes.Float64,
	"bool":          arrow.PrimitiveTypes.Uint8,
	"bfloat16":      arrow.PrimitiveTypes.Uint16,
	"float8_e4m3fn": arrow.PrimitiveTypes.Uint8,
	"float8_e5m2":   arrow.PrimitiveTypes.Uint8,
	"complex64":     arrow.PrimitiveTypes.Float32,
	"complex128":    arrow.PrimitiveTypes.Float64,
}

func dtypes() []string {
	var names []string
	for name := range storage {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// sample is random bits, so with NaNs and denormals where there are any.
func sample(dtype string, shape ...int) tensor {
	one := tensor{dtype: dtype, shape: append([]int{}, shape...)}
	width := storage[dtype].(arrow.FixedWidthDataType).Bytes()
	if strings.HasPrefix(dtype, "complex") {
		width *= 2
	}
	one.data = make([]byte, product(shape)*width)
	rand.NewChaCha8([32]byte{byte(len(dtype)), byte(len(shape)), dtype[0]}).Read(one.data)
	if dtype == "bool" {
		for i := range one.data {
			one.data[i] &= 1
		}
	}
	return one
}

// stored is the shape of what Arrow keeps: complex numbers have one more axis of 2.
func (t tensor) stored() []int {
	if strings.HasPrefix(t.dtype, "complex") {
		return append(slices.Clone(t.shape), 2)
	}
	return t.shape
}

// rows is the tensor's part [from, to) of the leading axis.
func (t tensor) rows(from, to int) tensor {
	row := len(t.data) / t.shape[0]
	return tensor{t.dtype, append([]int{to - from}, t.shape[1:]...), t.data[from*row : to*row]}
}

// cell is one row as a tensor of its own.
func (t tensor) cell(at int) tensor {
	row := len(t.data) / t.shape[0]
	return tensor{t.dtype, t.shape[1:], t.data[at*row : (at+1)*row]}
}

func (t tensor) same(other tensor) bool {
	return t.dtype == other.dtype && slices.Equal(t.shape, other.shape) && bytes.Equal(t.data, other.data)
}

// checksum is how the server writes it: xxh3-128 of the bytes in C order.
func (t tensor) checksum() string {
	sum := xxh3.Hash128(t.data).Bytes()
	return hex.EncodeToString(sum[:])
}

// snippet: tensor-field
// tensorField is a column of tensors, each of the shape `cell`. Arrow's Go library has no type for them, so the
// extension is written into the field's metadata; without it, FixedSizeList alone is taken as well.
func tensorField(dtype string, element arrow.DataType, cell []int) arrow.Field {
	kind, metadata := element, map[string]string{}
	if len(cell) > 0 {
		child := arrow.Field{Name: "item", Type: element}
		kind = arrow.FixedSizeListOfField(int32(product(cell)), child)
		shape, _ := json.Marshal(map[string]any{"shape": cell})
		metadata["ARROW:extension:name"] = "arrow.fixed_shape_tensor"
		metadata["ARROW:extension:metadata"] = string(shape)
	}
	if dtype != element.Name() {
		metadata["tensor.dtype"] = dtype // such as bool, bfloat16, complex64
	}
	return arrow.Field{Name: "tensor", Type: kind, Metadata: arrow.MetadataFrom(metadata)}
}

// snippet end

// snippet: tensor-column
// tensorColumn makes the column of such a field out of the elements' bytes, which it does not copy.
func tensorColumn(kind arrow.DataType, rows int, data []byte) arrow.Array {
	buffers := []*memory.Buffer{nil, memory.NewBufferBytes(data)}
	list, ok := kind.(*arrow.FixedSizeListType)
	if !ok {
		return array.MakeFromData(array.NewData(kind, rows, buffers, nil, 0, 0))
	}
	elements := array.NewData(list.Elem(), rows*int(list.Len()), buffers, nil, 0, 0)
	return array.MakeFromData(array.NewData(list, rows, buffers[:1], []arrow.ArrayData{elements}, 0, 0))
}

// snippet end

// field is the column's field of one tensor; of many, where its leading axis counts them.
func (t tensor) field() arrow.Field {
	stored := t.stored()
	return tensorField(t.dtype, storage[t.dtype], stored[min(1, len(stored)):])
}

func (t tensor) column() arrow.Array {
	stored := t.stored()
	if len(stored) == 0 {
		return tensorColumn(t.field().Type, 1, t.data)
	}
	return tensorColumn(t.field().Type, stored[0], t.data)
}

func (t tensor) schema() *arrow.Schema {
	var metadata *arrow.Metadata
	if len(t.shape) == 0 {
		metadata = metadataOf("tensor.shape", t.shape)
	}
	return arrow.NewSchema([]arrow.Field{t.field()}, metadata)
}

func metadataOf(name string, value any) *arrow.Metadata {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	metadata := arrow.NewMetadata([]string{name}, []string{string(text)})
	return &metadata
}

func (t tensor) batch(schema *arrow.Schema) arrow.RecordBatch {
	column := t.column()
	return array.NewRecordBatch(schema, []arrow.Array{column}, int64(column.Len()))
}

// keyed is many tensors as the rows of a table: `tensor` beside a column of keys.
func keyed(keys []string, tensors tensor) arrow.RecordBatch {
	fields := []arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String}, tensors.field()}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), []arrow.Array{texts(keys...), tensors.column()}, int64(len(keys)))
}

func texts(values ...string) arrow.Array {
	builder := array.NewStringBuilder(memory.DefaultAllocator)
	builder.AppendValues(values, nil)
	return builder.NewArray()
}

// snippet: values
// values is the bytes of a column's elements, however they are nested.
func values(column arrow.ArrayData) []byte {
	offset, length := column.Offset(), column.Len()
	for len(column.Children()) > 0 {
		size := int(column.DataType().(*arrow.FixedSizeListType).Len())
		column = column.Children()[0]
		offset, length = offset*size+column.Offset(), length*size
	}
	width := column.DataType().(arrow.FixedWidthDataType).Bytes()
	if length == 0 {
		return nil
	}
	return column.Buffers()[1].Bytes()[offset*width : (offset+length)*width]
}

// tensorOf puts together what a get of one key returned.
func tensorOf(schema *arrow.Schema, chunks []chunk) (one tensor) {
	metadata := schema.Metadata().ToMap()
	one.dtype = metadata["tensor.dtype"]
	if err := json.Unmarshal([]byte(metadata["tensor.shape"]), &one.shape); err != nil {
		panic(err)
	}
	for _, chunk := range chunks {
		one.data = append(one.data, values(chunk.Column(0).Data())...)
	}
	return one
}

// snippet end

// keysOf is the column `key` of all chunks.
func keysOf(chunks []chunk) []string {
	keys := []string{}
	for _, chunk := range chunks {
		column := chunk.Column(0).(*array.String)
		for at := range column.Len() {
			keys = append(keys, column.Value(at))
		}
	}
	return keys
}

// tensorsOf is the column `tensor` of all chunks, of a dtype and a cell that the caller knows.
func tensorsOf(chunks []chunk, dtype string, cell ...int) tensor {
	all := tensor{dtype: dtype, shape: append([]int{0}, cell...)}
	for _, chunk := range chunks {
		all.shape[0] += int(chunk.NumRows())
		all.data = append(all.data, values(chunk.Column(1).Data())...)
	}
	return all
}

// ipcFile is an Arrow IPC stream: its schema and its batches.
func ipcStream(text []byte) (*arrow.Schema, []arrow.RecordBatch, error) {
	reader, err := ipc.NewReader(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	defer reader.Release()
	var batches []arrow.RecordBatch
	for reader.Next() {
		reader.RecordBatch().Retain()
		batches = append(batches, reader.RecordBatch())
	}
	return reader.Schema(), batches, reader.Err()
}

func product(shape []int) int {
	count := 1
	for _, axis := range shape {
		count *= axis
	}
	return count
}
