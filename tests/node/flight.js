// Flight's verbs with gRPC's and Arrow's JavaScript libraries, which have no Flight client of their own.

// snippet: connect
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import * as grpc from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { Message, tableFromIPC, tableToIPC } from 'apache-arrow'

const definition = loadSync(fileURLToPath(new URL('flight.proto', import.meta.url)), { longs: Number, defaults: true })
const { FlightService } = grpc.loadPackageDefinition(definition).arrow.flight.protocol

/** The address is what the server prints behind grpc://. */
export function connect(address, options = {}) {
  return new FlightService(address, grpc.credentials.createInsecure(), options)
}

export const path = (...parts) => ({ type: 'PATH', path: parts })
export const command = (members) => ({ type: 'CMD', cmd: Buffer.from(JSON.stringify(members)) })
// snippet end

// snippet: messages
/** An IPC stream as FlightData, a message each: behind a mark and a length stands the header, behind it the body. */
export function* messagesOf(table) {
  const stream = tableToIPC(table, 'stream')
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength)
  for (let at = 0; view.getInt32(at + 4, true) > 0; ) {
    const body = at + 8 + view.getInt32(at + 4, true)
    const dataHeader = stream.subarray(at + 8, body)
    at = body + Number(Message.decode(dataHeader).bodyLength)
    yield { dataHeader, dataBody: stream.subarray(body, at) }
  }
}

/** FlightData as an IPC stream, which Arrow's library reads. */
export function streamOf(messages) {
  const parts = []
  for (const { dataHeader, dataBody } of messages) {
    const padding = -dataHeader.length & 7
    const mark = Buffer.alloc(8, 0xff)
    mark.writeInt32LE(dataHeader.length + padding, 4)
    parts.push(mark, dataHeader, Buffer.alloc(padding), dataBody)
  }
  return Buffer.concat(parts)
}
// snippet end

// snippet: put
/** Puts a table and gives the one PutResult. */
export async function put(client, descriptor, table) {
  const call = client.DoPut()
  const result = new Promise((resolve, reject) => {
    let said
    call.on('data', (reply) => (said = JSON.parse(reply.appMetadata)))
    call.on('error', reject)
    call.on('status', (status) => status.code === grpc.status.OK && resolve(said))
  })
  result.catch(() => {}) // it is awaited below
  let first = { flightDescriptor: descriptor }
  for (const message of messagesOf(table)) {
    if (!call.write({ ...first, ...message })) {
      await once(call, 'drain') // fails as soon as the server refuses
    }
    first = {}
  }
  call.end() // a put that is given up ends with call.cancel(): what ends so is a whole tensor
  return result
}
// snippet end

// snippet: get
/** Reads a stream: a table, and the JSON that stood beside its batches. */
export async function get(client, ticket) {
  const messages = []
  for await (const message of client.DoGet({ ticket: Buffer.from(JSON.stringify(ticket)) })) {
    messages.push(message)
  }
  const said = messages.filter((message) => message.appMetadata.length > 0).map((message) => JSON.parse(message.appMetadata))
  return { table: tableFromIPC(streamOf(messages)), said }
}

/** The values of one column over all batches, however they are nested: one typed array of what Arrow keeps. */
export function valuesOf(column) {
  const parts = column.data.map((data) => {
    let count = data.length
    for (; data.children.length > 0; data = data.children[0]) {
      count *= data.type.listSize
    }
    return data.values.subarray(0, count)
  })
  const all = new parts[0].constructor(parts.reduce((sum, part) => sum + part.length, 0))
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0)
  return all
}
// snippet end

// snippet: act
/** One action: JSON in, JSON out. */
export async function act(client, type, body) {
  const replies = await client.DoAction({ type, body: Buffer.from(JSON.stringify(body)) }).toArray()
  return JSON.parse(replies[0].body)
}
// snippet end

// snippet: code
/** The server's code, such as not_found. An error that the client made itself, such as a deadline's, has none. */
export function codeOf(error) {
  return error.metadata?.get('bowstring-code')[0]
}
// snippet end
