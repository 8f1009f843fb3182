// An agent for the command line: the model calls the tools of an MCP server, which are asked for
// and handed on as they are, and tools of the program itself.
//
//     npm install nodemlx @modelcontextprotocol/sdk
//     node agent.mjs                            # with the server beside this file
//     node agent.mjs npx -y some-mcp-server     # or with any other

import { createInterface } from 'node:readline/promises'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { loadModel } from 'nodemlx'

const given = process.argv.slice(2)
const own = [process.execPath, fileURLToPath(new URL('server.mjs', import.meta.url))]
const [command, ...args] = given.length > 0 ? given : own

const client = new Client({ name: 'agent', version: '1.0.0' })
await client.connect(new StdioClientTransport({ command, args }))
const listed = await client.listTools()

/** A tool of the server as `model.chat` takes it. */
const fromServer = ({ name, description, inputSchema }) => ({
  name,
  description,
  parameters: inputSchema,
  async execute(input) {
    const { content, structuredContent, isError } = await client.callTool({
      name,
      arguments: input,
    })
    const text = content.map((part) => part.text ?? `(${part.type})`).join('\n')
    // The model is told what went wrong, and may try again.
    if (isError) throw new Error(text)
    return structuredContent ?? text
  },
})

const clock = {
  name: 'get_time',
  description: 'Get the time of day',
  parameters: { type: 'object', properties: {} },
  execute: () => new Date().toLocaleTimeString(),
}

const model = await loadModel('demo')
const chat = model.chat({
  temperature: 0,
  tools: [...listed.tools.map(fromServer), clock],
  // A place to ask the user: `false` refuses the call.
  onToolCall: ({ name, arguments: input }) => console.error(`→ ${name}`, input),
})

const terminal = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' })
// The input may end while an answer is written: nobody is left to be prompted then.
let isOpen = true
terminal.once('close', () => (isOpen = false))

terminal.prompt()
for await (const line of terminal) {
  for await (const text of chat.send(line).textStream) process.stdout.write(text)
  process.stdout.write('\n')
  if (isOpen) terminal.prompt()
}
await client.close()
await model.dispose()
