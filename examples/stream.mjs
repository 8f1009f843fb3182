// Prints an answer while it is generated, and stops it after its first sentence: leaving the loop
// is enough.
//
//     node stream.mjs "Tell me a short story about a fox."

import { loadModel } from 'nodemlx'

const model = await loadModel('demo')
const answer = model.generate(process.argv[2] ?? 'Tell me a short story about a fox.', {
  temperature: 0,
})

for await (const text of answer.textStream) {
  process.stdout.write(text)
  if (text.includes('.')) break
}
process.stdout.write('\n')

const { finishReason, usage } = await answer
console.log(`(${finishReason}, ${usage.completionTokens} tokens)`)
await model.dispose()
