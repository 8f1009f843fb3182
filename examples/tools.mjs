// A chat whose model calls a function.
//
//     node tools.mjs "What is the weather in Paris?"

import { loadModel } from 'nodemlx'

const model = await loadModel('demo')
const chat = model.chat({
  temperature: 0,
  tools: [
    {
      name: 'get_weather',
      description: 'Get the weather in a city',
      parameters: {
        type: 'object',
        properties: { city: { type: 'string', description: 'The name of the city' } },
        required: ['city'],
      },
      execute: ({ city }) => ({ city, temperature: 21, unit: 'celsius', conditions: 'sunny' }),
    },
  ],
  onToolCall: ({ name, arguments: args }) => console.error(name, args),
})

const answer = chat.send(process.argv[2] ?? 'What is the weather in Paris?')
for await (const text of answer.textStream) process.stdout.write(text)
process.stdout.write('\n')
await model.dispose()
