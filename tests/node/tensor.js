// Columns of tensors, by Arrow's JavaScript library.

// snippet: tensor
import { Field, FixedSizeList, RecordBatch, Schema, Struct, Table, makeData } from 'apache-arrow'

/** What Arrow has no type for. */
const NAMED = ['bool', 'bfloat16', 'float8_e4m3fn', 'float8_e5m2', 'complex64', 'complex128']

/** A column of tensors of the shape `cell`: a FixedSizeList that is told to be tensors, or numbers where it has no axes. */
export function tensorField(dtype, element, cell) {
  const metadata = new Map()
  if (NAMED.includes(dtype)) {
    metadata.set('tensor.dtype', dtype)
  }
  if (cell.length === 0) {
    return new Field('tensor', element, false, metadata)
  }
  metadata.set('ARROW:extension:name', 'arrow.fixed_shape_tensor')
  metadata.set('ARROW:extension:metadata', JSON.stringify({ shape: cell }))
  const size = cell.reduce((product, axis) => product * axis, 1)
  return new Field('tensor', new FixedSizeList(size, new Field('item', element, false)), false, metadata)
}

/** Its column, of a typed array: no copy is made. */
export function tensorData(field, rows, values) {
  const { type } = field
  if (!(type instanceof FixedSizeList)) {
    return makeData({ type, length: rows, nullCount: 0, data: values })
  }
  const child = makeData({ type: type.children[0].type, length: rows * type.listSize, nullCount: 0, data: values })
  return makeData({ type, length: rows, nullCount: 0, child })
}

/** A table of these columns, as one batch. */
export function tableOf(fields, columns, rows, metadata = new Map()) {
  const schema = new Schema(fields, metadata)
  const struct = makeData({ type: new Struct(fields), length: rows, nullCount: 0, children: columns })
  return new Table(schema, new RecordBatch(schema, struct))
}
// snippet end
