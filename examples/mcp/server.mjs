// A server of the Model Context Protocol with one tool, for the agent beside it.

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { z } from 'zod'

const server = new McpServer({ name: 'weather', version: '1.0.0' })

server.registerTool(
  'get_weather',
  {
    description: 'Get the weather in a city',
    inputSchema: { city: z.string().describe('The name of the city') },
  },
  ({ city }) => ({
    content: [{ type: 'text', text: JSON.stringify({ city, condition: 'sunny' }) }],
  }),
)

await server.connect(new StdioServerTransport())
