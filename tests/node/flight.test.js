import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { Field, Utf8, vectorFromArray } from 'apache-arrow'
import { Float16, Float32, Float64, Int16, Int32, Int64, Int8, Uint16, Uint32, Uint64, Uint8 } from 'apache-arrow'
import { act, codeOf, command, connect, get, messagesOf, path, put, valuesOf } from './flight.js'
import { start } from './server.js'
import { tableOf, tensorData, tensorField } from './tensor.js'

let server, client

before(async () => {
  server = await start()
  client = connect(server.flight)
})

after(async () => {
  client.close()
  await server.stop()
})

/** The type that each dtype is kept in, and the typed array of its values. */
const STORAGE = {
  int8: [new Int8(), Int8Array],
  int16: [new Int16(), Int16Array],
  int32: [new Int32(), Int32Array],
  int64: [new Int64(), BigInt64Array],
  uint8: [new Uint8(), Uint8Array],
  uint16: [new Uint16(), Uint16Array],
  uint32: [new Uint32(), Uint32Array],
  uint64: [new Uint64(), BigUint64Array],
  float16: [new Float16(), Uint16Array],
  float32: [new Float32(), Float32Array],
  float64: [new Float64(), Float64Array],
  bool: [new Uint8(), Uint8Array],
  bfloat16: [new Uint16(), Uint16Array],
  float8_e4m3fn: [new Uint8(), Uint8Array],
  float8_e5m2: [new Uint8(), Uint8Array],
  complex64: [new Float32(), Float32Array],
  complex128: [new Float64(), Float64Array],
}

/** A tensor of random bits: a table of one column, and its bytes. */
function sample(dtype, shape) {
  const [element, Values] = STORAGE[dtype]
  const stored = dtype.startsWith('complex') ? [...shape, 2] : shape
  const count = stored.reduce((product, axis) => product * axis, 1)
  const bytes = randomBytes(count * Values.BYTES_PER_ELEMENT)
  if (dtype === 'bool') {
    bytes.forEach((byte, at) => (bytes[at] = byte & 1))
  }
  const values = new Values(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
  const field = tensorField(dtype, element, stored.slice(1))
  const rows = stored[0] ?? 1
  const column = tensorData(field, rows, values)
  const metadata = new Map(shape.length === 0 ? [['tensor.shape', '[]']] : [])
  return { field, column, bytes, rows, table: tableOf([field], [column], rows, metadata) }
}

/** Writes down that a test had tensors of a dtype, for tests/run, which looks whether the table of docs/clients is true. */
function covered(name, dtype) {
  if (process.env.COVERED) {
    appendFileSync(process.env.COVERED, `tests/node/flight.test.js: ${name}: ${dtype}\n`)
  }
}

function bulkOf(keys, tensors) {
  const key = vectorFromArray(keys, new Utf8())
  return tableOf([new Field('key', new Utf8(), false), tensors.field], [key.data[0], tensors.column], keys.length)
}

const bytesOf = (column) => Buffer.from(valuesOf(column).buffer)

/** The call must be refused with this code, the status that goes with it, and this word. */
async function refused(code, status, word, call) {
  await assert.rejects(call, (error) => {
    assert.equal(codeOf(error), code, error.message)
    assert.equal(error.code, status)
    assert.ok(error.details.startsWith(`${code}: `) && error.details.includes(word), error.details)
    return true
  })
}

const [CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS] = [1, 3, 4, 5, 6]
const [RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED, DATA_LOSS] = [8, 9, 12, 15]

test('one tensor', async () => {
  for (const shape of [[], [1], [768], [3, 4], [5, 1, 2, 3], [0], [0, 3], [3, 0]]) {
    const one = sample('float32', shape)
    const key = JSON.stringify(shape)
    const result = await put(client, path('node.one', key), one.table)
    assert.deepEqual([result.stored, result.existed, result.bytes], [1, 0, one.bytes.length])
    const { table } = await get(client, { namespace: 'node.one', key })
    assert.deepEqual(JSON.parse(table.schema.metadata.get('tensor.shape')), shape)
    assert.equal(table.schema.metadata.get('tensor.version'), result.version)
    assert.deepEqual(one.bytes.length > 0 ? bytesOf(table.getChild('tensor')) : Buffer.alloc(0), one.bytes)
  }
})

test('every dtype', async () => {
  for (const dtype of Object.keys(STORAGE)) {
    for (const shape of [[], [5], [3, 4], [2, 3, 4]]) {
      const one = sample(dtype, shape)
      const key = `${dtype}${shape.length}`
      await put(client, path('node.dtypes', key), one.table)
      for (const layout of ['rows', 'flat']) {
        const { table } = await get(client, { namespace: 'node.dtypes', key, layout })
        assert.equal(table.schema.metadata.get('tensor.dtype'), dtype)
        assert.deepEqual(bytesOf(table.getChild('tensor')), one.bytes)
      }
    }
    covered('every dtype', dtype)
  }
})

test('every dtype in rows', async () => {
  for (const dtype of Object.keys(STORAGE)) {
    const rows = sample(dtype, [3, 2])
    await put(client, command({ namespace: `node.bulk.${dtype}` }), bulkOf(['a', 'b', 'c'], rows))
    const { table } = await get(client, { namespace: `node.bulk.${dtype}`, keys: ['a', 'b', 'c'] })
    assert.deepEqual(bytesOf(table.getChild('tensor')), rows.bytes)
    covered('every dtype in rows', dtype)
  }
})

test('what a get returned can be put', async () => {
  const one = sample('complex64', [4, 3])
  await put(client, command({ namespace: 'node.again', key: 'a', metadata: { model: 'm1' } }), one.table)
  const { table } = await get(client, { namespace: 'node.again', key: 'a' })
  await put(client, path('node.again', 'b'), table)
  const copy = (await get(client, { namespace: 'node.again', key: 'b' })).table
  assert.equal(copy.schema.metadata.get('user.model'), 'm1')
  assert.deepEqual(bytesOf(copy.getChild('tensor')), one.bytes)
})

test('modes, versions and rows', async () => {
  const [one, other] = [sample('float32', [10, 3]), sample('float32', [10, 3])]
  const where = { namespace: 'node.modes', key: 'a' }
  const { version } = await put(client, command(where), one.table)
  assert.equal((await put(client, command(where), one.table)).existed, 1)
  await refused('already_exists', ALREADY_EXISTS, 'a', put(client, command(where), other.table))
  await refused('not_modified', FAILED_PRECONDITION, '', get(client, { ...where, unless_version: version }))
  await refused('data_loss', DATA_LOSS, 'checksum', put(client, command({ ...where, checksum: '0'.repeat(32), mode: 'replace' }), other.table))
  const { table } = await get(client, { ...where, rows: [2, 5] })
  assert.deepEqual(bytesOf(table.getChild('tensor')), one.bytes.subarray(24, 60))
  await put(client, command({ ...where, mode: 'replace', if_version: version }), other.table)
  await refused('failed_precondition', FAILED_PRECONDITION, 'version', get(client, { ...where, version }))
})

test('keys, and those that are missing', async () => {
  const rows = sample('float32', [3, 4])
  await put(client, command({ namespace: 'node.many' }), bulkOf(['a', 'b', 'c'], rows))
  const { table, said } = await get(client, { namespace: 'node.many', keys: ['c', 'no', 'a', 'nor'] })
  assert.deepEqual([...table.getChild('key')], ['c', 'a'])
  assert.deepEqual(said, [{ missing: ['no', 'nor'] }])
  assert.deepEqual(bytesOf(table.getChild('tensor')), Buffer.concat([rows.bytes.subarray(32), rows.bytes.subarray(0, 16)]))
  const nulls = (await get(client, { namespace: 'node.many', keys: ['no', 'b'], missing: 'null' })).table
  assert.deepEqual([...nulls.getChild('tensor')].map((cell) => cell === null), [true, false])
  const nothing = await get(client, { namespace: 'node.many', keys: ['x'] })
  assert.deepEqual(nothing.said, [{ missing: ['x'] }])
})

test('a prefix, as opaque rows and in small messages', async () => {
  const rows = sample('int16', [100, 8])
  const keys = Array.from({ length: 100 }, (_, at) => `k${String(at).padStart(2, '0')}`)
  await put(client, command({ namespace: 'node.prefix' }), bulkOf(keys, rows))
  await put(client, path('node.prefix', 'x'), sample('int8', [7]).table)
  const opaque = (await get(client, { namespace: 'node.prefix', prefix: '' })).table
  assert.deepEqual([...opaque.getChild('key')], [...keys, 'x'])
  assert.deepEqual(Buffer.from(opaque.getChild('data').get(1)), rows.bytes.subarray(16, 32))
  assert.deepEqual([...opaque.getChild('shape').get(1)].map(Number), [8])
  const small = await get(client, { namespace: 'node.prefix', prefix: 'k', dtype: 'int16', shape: [8], max_message_bytes: 256 })
  assert.ok(small.table.batches.length > 4)
  assert.deepEqual(bytesOf(small.table.getChild('tensor')), rows.bytes)
})

test('a row that is bad does not lose the others', async () => {
  const result = await put(client, command({ namespace: 'node.bad' }), bulkOf(['a', '', 'c'], sample('int8', [3, 2])))
  assert.deepEqual([result.stored, result.errors_total, result.errors[0].row, result.errors[0].code], [2, 1, 1, 'invalid_argument'])
})

test('info, list and actions', async () => {
  const rows = sample('float32', [3, 4])
  await put(client, command({ namespace: 'node.info' }), bulkOf(['a', 'b', 'c'], rows))
  const info = await new Promise((resolve, reject) =>
    client.GetFlightInfo(path('node.info', 'b'), (error, reply) => (error ? reject(error) : resolve(reply))),
  )
  assert.deepEqual([info.totalRecords, info.totalBytes, JSON.parse(info.appMetadata).shape], [4, 16, [4]])
  const { table } = await get(client, JSON.parse(info.endpoint[0].ticket.ticket))
  assert.deepEqual(bytesOf(table.getChild('tensor')), rows.bytes.subarray(16, 32))
  const criteria = { expression: Buffer.from(JSON.stringify({ namespace: 'node.info', after: 'a' })) }
  const listed = await client.ListFlights(criteria).toArray()
  assert.deepEqual(listed.map((flight) => flight.flightDescriptor.path[1]), ['b', 'c'])
  assert.equal((await act(client, 'exists', { namespace: 'node.info', keys: ['a', 'b', 'no'] })).leading, 2)
})

test('a load shows at once', async () => {
  const namespace = 'node.load'
  const { load_id } = await act(client, 'begin_load', { namespace })
  await put(client, command({ namespace, load_id }), bulkOf(['a', 'b'], sample('int8', [2, 3])))
  await refused('not_found', NOT_FOUND, 'a', get(client, { namespace, key: 'a' }))
  assert.equal((await act(client, 'commit_load', { load_id })).entries, 2)
  assert.equal((await get(client, { namespace, keys: ['a', 'b'] })).table.numRows, 2)
})

test('an exchange of keys for tensors', async () => {
  const rows = sample('float32', [3, 4])
  await put(client, command({ namespace: 'node.exchange' }), bulkOf(['a', 'b', 'c'], rows))
  const keys = tableOf([new Field('key', new Utf8(), false)], [vectorFromArray(['c', 'no'], new Utf8()).data[0]], 2)
  const call = client.DoExchange()
  let first = { flightDescriptor: command({ exchange: 'get', namespace: 'node.exchange', dtype: 'float32', shape: [4] }) }
  for (const message of messagesOf(keys)) {
    call.write({ ...first, ...message })
    first = {}
  }
  call.end()
  const [, answer] = await call.toArray()
  assert.deepEqual(JSON.parse(answer.appMetadata), { missing: ['no'] })
  assert.deepEqual(answer.dataBody.subarray(-16), rows.bytes.subarray(32))
})

test('errors', async () => {
  await refused('not_found', NOT_FOUND, 'nobody', get(client, { key: 'nobody has this' }))
  await refused('invalid_argument', INVALID_ARGUMENT, 'colour', get(client, { key: 'a', colour: 1 }))
  await refused('invalid_argument', INVALID_ARGUMENT, 'namespace', put(client, path('not legal', 'a'), sample('int8', [3]).table))
  await refused('unimplemented', UNIMPLEMENTED, 'frobnicate', act(client, 'frobnicate', {}))
  await refused('resource_exhausted', RESOURCE_EXHAUSTED, '', put(client, command({ key: 'a', size_bytes: 2 ** 40 }), sample('int8', [3]).table))
})

test('64 MiB within the default limits, and a row that is above them', async () => {
  const one = sample('float32', [16384, 1024])
  await put(client, path('node.large', 'a'), one.table)
  const { table } = await get(client, { namespace: 'node.large', key: 'a' })
  assert.ok(bytesOf(table.getChild('tensor')).equals(one.bytes))
  const row = sample('uint8', [1, 8 << 20])
  await put(client, path('node.large', 'row'), row.table)
  const ticket = { namespace: 'node.large', key: 'row' }
  await assert.rejects(get(client, ticket), (error) => error.code === RESOURCE_EXHAUSTED && codeOf(error) === undefined)
  assert.ok(bytesOf((await get(client, { ...ticket, layout: 'flat' })).table.getChild('tensor')).equals(row.bytes))
  // snippet: large
  const large = connect(server.flight, { 'grpc.max_receive_message_length': -1 })
  // snippet end
  assert.ok(bytesOf((await get(large, ticket)).table.getChild('tensor')).equals(row.bytes))
  large.close()
})

test('a deadline and a stream that is cancelled', async () => {
  const late = client.DoGet({ ticket: Buffer.from('{"key": "a"}') }, { deadline: Date.now() - 1000 })
  await assert.rejects(late.toArray(), (error) => error.code === DEADLINE_EXCEEDED && codeOf(error) === undefined)
  await put(client, path('node.cancel', 'a'), sample('float32', [16384, 1024]).table)
  const call = client.DoGet({ ticket: Buffer.from('{"namespace": "node.cancel", "key": "a"}') })
  // To leave the loop is not enough: gRPC would go on reading.
  await assert.rejects(
    async () => {
      for await (const message of call) {
        assert.ok(message.dataHeader.length > 0)
        call.cancel()
      }
    },
    (error) => error.code === CANCELLED,
  )
  await act(client, 'delete', { namespace: 'node.cancel', keys: ['a'] })
  for (let held = 1; held > 0; ) {
    const text = await (await fetch(`${server.http}/metrics`)).text()
    held = Number(/^bowstring_readers_held_bytes (\d+)$/m.exec(text)[1])
  }
})
