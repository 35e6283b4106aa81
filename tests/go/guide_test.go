package bowstring

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
)

// What docs/clients/go.md shows, in the order of the page.
func TestTheGuide(t *testing.T) {
	ctx, address := t.Context(), common.address
	// snippet: one
	client, err := connect(address) // what the server prints behind grpc://
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	field := tensorField("float32", arrow.PrimitiveTypes.Float32, []int{4})
	elements := arrow.Float32Traits.CastToBytes([]float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	schema := arrow.NewSchema([]arrow.Field{field}, nil)
	batch := array.NewRecordBatch(schema, []arrow.Array{tensorColumn(field.Type, 3, elements)}, 3)

	where := &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: []string{"go", "weights"}}
	result, err := put(ctx, client, where, schema, batch)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%+v\n", result) // {Stored:1 Existed:0 Bytes:48 Version:… Errors:[] ErrorsTotal:0}

	schema, chunks, err := get(ctx, client, `{"namespace": "go", "key": "weights"}`)
	if err != nil {
		t.Fatal(err)
	}
	back := tensorOf(schema, chunks)
	fmt.Println(back.dtype, back.shape, arrow.Float32Traits.CastFromBytes(back.data)) // float32 [3 4] [0 1 2 …]
	// snippet end
	if !back.same(tensor{"float32", []int{3, 4}, elements}) || result.Bytes != 48 {
		t.Errorf("%+v %v", result, back)
	}

	// snippet: many
	// Three tensors of 4 elements, each an entry of its own, under the keys of the first column.
	fields := []arrow.Field{{Name: "key", Type: arrow.BinaryTypes.String}, field}
	columns := []arrow.Array{texts("king", "queen", "rook"), tensorColumn(field.Type, 3, elements)}
	rows := array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, 3)
	where = &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte(`{"namespace": "pieces"}`)}
	result, err = put(ctx, client, where, rows.Schema(), rows)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range result.Errors { // at most 100; ErrorsTotal counts all
		fmt.Println(bad.Row, bad.Key, bad.Code, bad.Message)
	}

	_, chunks, err = get(ctx, client, `{"namespace": "pieces", "keys": ["rook", "pawn", "king"]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, chunk := range chunks {
		for row := range int(chunk.NumRows()) {
			list := chunk.Column(1).(*array.FixedSizeList)
			start, end := list.ValueOffsets(row)
			fmt.Println(chunk.Column(0).(*array.String).Value(row), list.ListValues().(*array.Float32).Float32Values()[start:end])
		}
	}
	missing, complete := missingOf(chunks)
	fmt.Println(missing, complete) // [pawn] true
	// snippet end
	if result.Stored != 3 || fmt.Sprint(missing, complete, keysOf(chunks)) != "[pawn] true [rook king]" {
		t.Errorf("%+v %v %v", result, missing, keysOf(chunks))
	}

	// snippet: refused
	_, _, err = get(ctx, client, `{"namespace": "pieces", "key": "bishop"}`)
	switch code, message := codeOf(err); code {
	case "not_found":
		fmt.Println("a miss:", message)
	default:
		t.Fatal(err)
	}
	// snippet end
}
