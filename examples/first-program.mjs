// A first program: load the model that comes with the package, ask it something, and give its
// memory back.
//
//     node first-program.mjs "What is the capital of France?"

import { loadModel } from 'nodemlx'

const model = await loadModel('demo')
const { text, usage, timings } = await model.generate(process.argv[2] ?? 'What is 2 + 2?', {
  temperature: 0,
})
console.log(text)
console.log(
  `${usage.completionTokens} tokens, ${timings.tokensPerSecond.toFixed(1)} tokens per second`,
)
await model.dispose()
