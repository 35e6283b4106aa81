// What docs/clients/node.md shows.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Field, Float32, Utf8, vectorFromArray } from 'apache-arrow'
import { act, codeOf, command, connect, get, path, put, valuesOf } from './flight.js'
import { start } from './server.js'
import { tableOf, tensorData, tensorField } from './tensor.js'

test('the guide', async () => {
  const server = await start()
  const address = server.flight
  // snippet: one
  const client = connect(address)
  const field = tensorField('float32', new Float32(), [4])
  const column = tensorData(field, 3, Float32Array.from({ length: 12 }, (_, at) => at))
  const result = await put(client, path('node', 'weights'), tableOf([field], [column], 3))
  console.log(result) // { stored: 1, existed: 0, bytes: 48, version: '…', errors: [], errors_total: 0 }

  const { table } = await get(client, { namespace: 'node', key: 'weights' })
  const shape = JSON.parse(table.schema.metadata.get('tensor.shape')) // [3, 4]
  const values = valuesOf(table.getChild('tensor')) // Float32Array of 12
  // snippet end
  assert.deepEqual([shape, [...values.subarray(9)], result.bytes], [[3, 4], [9, 10, 11], 48])

  // snippet: many
  const keys = vectorFromArray(['king', 'queen', 'rook'], new Utf8())
  const fields = [new Field('key', new Utf8(), false), field]
  const stored = await put(client, command({ namespace: 'pieces' }), tableOf(fields, [keys.data[0], column], 3))
  for (const { row, key, message } of stored.errors) {
    console.log(row, key, message) // at most 100 bad rows; errors_total counts all
  }

  const found = await get(client, { namespace: 'pieces', keys: ['rook', 'pawn', 'king'] })
  for (const { key, tensor } of found.table) {
    console.log(key, [...tensor])
  }
  const missing = found.said.flatMap((closing) => closing.missing) // ['pawn']
  // snippet end
  assert.deepEqual([[...found.table.getChild('key')], missing, stored.stored], [['rook', 'king'], ['pawn'], 3])

  // snippet: load
  const { load_id } = await act(client, 'begin_load', { namespace: 'pieces', replace_all: true })
  const loaded = await put(client, command({ namespace: 'pieces', load_id }), tableOf(fields, [keys.data[0], column], 3))
  await act(client, loaded.errors_total > 0 ? 'abort_load' : 'commit_load', { load_id })
  // snippet end
  assert.equal((await get(client, { namespace: 'pieces', prefix: '' })).table.numRows, 3)

  let missed = false
  // snippet: refused
  try {
    await get(client, { namespace: 'pieces', key: 'bishop' })
  } catch (error) {
    missed = codeOf(error) === 'not_found'
    console.log(error.details) // not_found: no such entry; namespace=`pieces` key=`bishop`
  }
  // snippet end
  assert.ok(missed)
  client.close()
  await server.stop()
})
