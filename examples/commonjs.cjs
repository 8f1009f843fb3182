// The same package with require, and with a model that is needed for one answer only.
//
//     node commonjs.cjs

const { generate, isSupported } = require('nodemlx')

async function main() {
  if (!isSupported()) throw new Error('nodemlx does not run here')
  const { text } = await generate('demo', 'What is the opposite of hot?', { temperature: 0 })
  console.log(text)
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
