// A chat that remembers what was said. Ctrl-C stops an answer, Ctrl-D leaves; an answer that takes
// longer than a minute is stopped, too.
//
//     node chat.mjs

import { createInterface } from 'node:readline/promises'
import { loadModel } from 'nodemlx'

const model = await loadModel('demo')
const messages = [{ role: 'system', content: 'You are a friendly helper.' }]

const terminal = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' })
let stop = new AbortController()
terminal.on('SIGINT', () => stop.abort())

// The input may end while an answer is written: nobody is left to be prompted then.
let isOpen = true
terminal.once('close', () => (isOpen = false))

terminal.prompt()
for await (const line of terminal) {
  messages.push({ role: 'user', content: line })
  stop = new AbortController()
  const answer = model.generate(messages, {
    temperature: 0,
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(60_000)]),
  })
  for await (const text of answer.textStream) process.stdout.write(text)
  process.stdout.write('\n')
  // A stopped answer has what was said until then.
  messages.push({ role: 'assistant', content: (await answer).text })
  if (isOpen) terminal.prompt()
}
await model.dispose()
