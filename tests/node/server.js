// A real `bowstring serve` on free ports, which ends with whoever started it.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

/** Ends the server when its input does, so also when this process is killed; its exit code is the server's. */
const KEEPER = '"$@" </dev/null & server=$!; exec >&-; cat >/dev/null; kill $server; wait $server'

/** The server that `tests/run` built; BOWSTRING_BIN names another one. */
function binary() {
  const { BOWSTRING_BIN, CARGO_TARGET_DIR = join(REPOSITORY, 'target') } = process.env
  return BOWSTRING_BIN ?? join(CARGO_TARGET_DIR, 'debug', 'bowstring')
}

/** Gives, once the server is ready, its address without grpc://, and a function that stops it. */
export async function start({ memory = '512MiB', listen = '127.0.0.1:0' } = {}) {
  const words = [binary(), 'serve', '--memory', memory, '--listen', listen, '--http', '127.0.0.1:0']
  // Settings of whoever runs the tests must not reach the server under test.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('BOWSTRING_')))
  const keeper = spawn('sh', ['-c', KEEPER, 'sh', ...words], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  let log = ''
  keeper.stderr.on('data', (text) => (log += text))
  const server = {
    async stop() {
      keeper.stdin.end()
      const [code] = keeper.exitCode === null ? await once(keeper, 'exit') : [keeper.exitCode]
      if (code !== 0 || log.includes('panicked')) {
        throw new Error(`the server ended with ${code}:\n${log}`)
      }
    },
  }
  for await (const line of createInterface({ input: keeper.stdout })) {
    const [name, address] = line.split(' ')
    server[name] = address.replace('grpc://', '')
    if (server.flight && server.http) {
      return server
    }
  }
  throw new Error(`the server ended before it was ready:\n${log}`)
}
