// What lies under the verbs: where a message has its bytes, and sockets that are files.

import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Field, Float64, Message, RecordBatchReader, Uint8, Utf8, vectorFromArray } from 'apache-arrow'
import { command, connect, get, path, put, streamOf, valuesOf } from './flight.js'
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

/** The messages of a get as gRPC received them, whole, beside what the protocol's file makes of them. */
async function rawMessages(ticket) {
  const { path, requestSerialize, responseDeserialize } = client.DoGet
  const call = client.makeServerStreamRequest(path, requestSerialize, (raw) => raw, { ticket: Buffer.from(JSON.stringify(ticket)) })
  return (await call.toArray()).map((raw) => ({ raw, ...responseDeserialize(raw) }))
}

test('padding and alignment', async () => {
  const namespace = 'node.aligned'
  const numbers = tensorField('float64', new Float64(), [3])
  const bytes = tensorField('uint8', new Uint8(), [5])
  for (const [dtype, field, Values] of [['float64', numbers, Float64Array], ['uint8', bytes, Uint8Array]]) {
    for (const rows of [1, 7, 1000]) {
      const values = Values.from({ length: rows * field.type.listSize }, (_, at) => at % 251)
      const names = Array.from({ length: rows }, (_, at) => `${dtype} ${rows} ${at}`)
      const column = tensorData(field, rows, values)
      await put(client, path(namespace, `${dtype} ${rows}`), tableOf([field], [column], rows))
      const keys = vectorFromArray(names, new Utf8())
      await put(client, command({ namespace }), tableOf([new Field('key', new Utf8(), false), field], [keys.data[0], column], rows))
      for (const what of [{ key: `${dtype} ${rows}` }, { key: `${dtype} ${rows}`, layout: 'flat' }, { keys: names }, { keys: names, layout: 'opaque' }]) {
        const messages = await rawMessages({ namespace, ...what, max_message_bytes: 4096 })
        let bodies = 0
        for (const { raw, dataHeader, dataBody } of messages) {
          const message = Message.decode(dataHeader)
          assert.equal(dataBody.length, Number(message.bodyLength))
          if (dataBody.length === 0 || Number(message.header().length) === 0) {
            continue
          }
          bodies += 1
          assert.equal((raw.length - dataBody.length) % 64, 48, 'where the body begins in its message')
          const buffers = message.header().buffers.map(({ offset, length }) => [Number(offset), Number(length)])
          assert.deepEqual(buffers.map(([offset]) => offset % 8), buffers.map(() => 0))
          const [tensors] = buffers.findLast(([, length]) => length > 0)
          assert.equal(tensors % 64, 0, 'where the elements begin in the body')
        }
        assert.ok(bodies > 0)
        // As an IPC stream, elements lie where typed arrays need them: what Arrow's library makes of it is no copy.
        const stream = streamOf(messages)
        for (const batch of RecordBatchReader.from(stream)) {
          for (let data = batch.getChild('tensor')?.data[0]; data; data = data.children[0]) {
            if (data.values?.length > 0) {
              assert.equal(data.values.byteOffset % data.values.BYTES_PER_ELEMENT, 0)
              assert.equal(data.values.buffer, stream.buffer)
            }
          }
        }
      }
    }
  }
})

test('a Unix socket', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bowstring-'))
  const listen = `unix:${join(folder, 's')}`
  const own = await start({ memory: '64MiB', listen })
  // snippet: unix
  const near = connect(listen) // unix:PATH, as the server was told to listen
  // snippet end
  const field = tensorField('float64', new Float64(), [2])
  const values = Float64Array.of(1, 2, 3, 4, 5, 6)
  await put(near, path('near'), tableOf([field], [tensorData(field, 3, values)], 3))
  const { table } = await get(near, { key: 'near' })
  assert.deepEqual(valuesOf(table.getChild('tensor')), values)
  near.close()
  await own.stop()
  await rm(folder, { recursive: true })
})
