// Makes data of a text: the answer is JSON of the schema, whatever the model would rather say.
//
//     node extract.mjs "Marie Curie was born in Warsaw in 1867."

import { loadModel } from 'nodemlx'

const SCHEMA = {
  type: 'object',
  properties: {
    // Limits keep a model from going on for ever, and from making things up at length.
    name: { type: 'string', maxLength: 40 },
    city: { type: 'string', maxLength: 40 },
    year: { type: 'integer', minimum: 0, maximum: 2100 },
  },
  required: ['name', 'city', 'year'],
}

const text = process.argv[2] ?? 'Marie Curie was born in Warsaw in 1867.'

const model = await loadModel('demo')
const messages = [
  // The schema says what is allowed; the prompt has to say what is wanted.
  { role: 'system', content: `Answer with JSON of this schema: ${JSON.stringify(SCHEMA)}` },
  { role: 'user', content: text },
]
const { object } = await model.generate(messages, {
  temperature: 0,
  responseFormat: { type: 'json', schema: SCHEMA },
})
console.log(JSON.stringify(object))
await model.dispose()
