#!/usr/bin/env node
// How fast a large file is downloaded over the loopback interface, next to curl in the same run,
// and how much memory that takes. node benches/hub.mjs [megabytes] [rounds]

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { downloadModel } from '../dist/index.js'
import { median } from './common/benchmarks.mjs'

const [megabytes = 1000, rounds = 5] = process.argv.slice(2).map(Number)
const SIZE = megabytes * 1_000_000
const COMMIT = 'c'.repeat(40)
// A block that is not a power of two long, repeated: parts that change places would be noticed.
const BLOCK = Buffer.from(Array.from({ length: 1_000_003 }, (_, at) => (at * 2_654_435_761) >>> 24))

if (process.argv[2] === 'serve') serve()
else await measure()

/** A hub with one model, in a process of its own. */
function serve() {
  const config = readFileSync(new URL('../models/demo/config.json', import.meta.url))
  const size = Number(process.argv[3])
  const hash = createHash('sha256')
  for (let at = 0; at < size; at += BLOCK.length)
    hash.update(BLOCK.subarray(0, Math.min(BLOCK.length, size - at)))
  const etags = {
    'config.json': createHash('sha1')
      .update(`blob ${config.length}\0`)
      .update(config)
      .digest('hex'),
    'model.safetensors': hash.digest('hex'),
  }
  const server = createServer((request, response) => {
    if (request.url.startsWith('/api/')) {
      const siblings = Object.keys(etags).map((rfilename) => ({ rfilename }))
      response.end(JSON.stringify({ sha: COMMIT, siblings }))
      return
    }
    const name = request.url.split('/').pop()
    const total = name === 'config.json' ? config.length : size
    const [, from = 0, to = total - 1] = /^bytes=(\d+)-(\d+)?$/.exec(request.headers.range) ?? []
    const [start, end] = [Number(from), Number(to) + 1]
    response.setHeader('etag', `"${etags[name]}"`)
    response.setHeader('content-range', `bytes ${start}-${end - 1}/${total}`)
    response.writeHead(request.headers.range ? 206 : 200, { 'content-length': end - start })
    if (request.method === 'HEAD') response.end()
    else if (name === 'config.json') response.end(config)
    else send(response, start, end)
  })
  server.listen(0, '127.0.0.1', () => console.log(server.address().port))
}

function send(response, start, end) {
  let at = start
  const go = () => {
    while (at < end) {
      const from = at % BLOCK.length
      const piece = BLOCK.subarray(from, Math.min(BLOCK.length, from + end - at))
      at += piece.length
      if (!response.write(piece)) {
        response.once('drain', go)
        return
      }
    }
    response.end()
  }
  go()
}

async function measure() {
  const child = spawn(process.execPath, [process.argv[1], 'serve', String(SIZE)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const port = await new Promise((resolve) =>
    child.stdout.once('data', (text) => resolve(Number(text))),
  )
  const endpoint = `http://127.0.0.1:${port}`
  const folder = mkdtempSync(join(tmpdir(), 'nodemlx-hub-'))
  const speeds = { curl: [], nodemlx: [] }
  let [before, most] = [0, 0]
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20)
  try {
    for (let round = 0; round <= rounds; round++) {
      const curl = await timed(() => curlTo(join(folder, 'curl'), endpoint))
      rmSync(join(folder, 'curl'))
      const ours = await timed(() =>
        downloadModel('owner/name', { endpoint, cacheDir: join(folder, 'cache') }),
      )
      rmSync(join(folder, 'cache'), { recursive: true })
      if (round === 0) {
        // The first round warms everything up.
        before = process.memoryUsage.rss()
        most = 0
        continue
      }
      speeds.curl.push(SIZE / 1e6 / curl)
      speeds.nodemlx.push(SIZE / 1e6 / ours)
      const share = ((100 * curl) / ours).toFixed(0)
      console.log(
        `curl ${(SIZE / 1e6 / curl).toFixed(0)} MB/s, nodemlx ${(SIZE / 1e6 / ours).toFixed(0)} MB/s: ${share} %`,
      )
    }
    const [curl, ours] = [median(speeds.curl), median(speeds.nodemlx)]
    console.log(
      `median of ${rounds}: curl ${curl.toFixed(0)} MB/s, nodemlx ${ours.toFixed(0)} MB/s, which is ${((100 * ours) / curl).toFixed(0)} %; ` +
        `memory ${(before / 1e6).toFixed(0)} MB after the first round, at most ${(most / 1e6).toFixed(0)} MB in the others`,
    )
  } finally {
    clearInterval(watch)
    child.kill()
    rmSync(folder, { recursive: true })
  }
}

async function timed(run) {
  const start = performance.now()
  await run()
  return (performance.now() - start) / 1000
}

function curlTo(path, endpoint) {
  const url = `${endpoint}/owner/name/resolve/${COMMIT}/model.safetensors`
  return new Promise((resolve, reject) => {
    const child = spawn('curl', ['-sf', '-o', path, url])
    child.on('error', reject)
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`curl: ${code}`))))
  })
}
