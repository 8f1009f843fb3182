// The site that `npm run docs` makes; its pages are all of docs/, and what that command adds.

const pages = (...names) => names.map(([text, name]) => ({ text, link: `/${name}` }))

export default {
  title: 'nodemlx',
  description: "Language models on Apple's MLX, inside Node.js",
  // A page is found under its name with and without .html.
  cleanUrls: true,
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: pages(['Guide', 'getting-started'], ['Examples', 'examples'], ['API', 'api/']),
    sidebar: [
      {
        text: 'Begin',
        items: pages(
          ['Two minutes', 'getting-started'],
          ['The guide', 'guide'],
          ['Examples', 'examples'],
          ['Comparison', 'comparison'],
        ),
      },
      {
        text: 'Tasks',
        items: pages(
          ['Chats', 'chat'],
          ['Structured output', 'structured-output'],
          ['Tools', 'tools'],
          ['Agents and MCP', 'agents'],
          ['Reasoning', 'reasoning'],
          ['Embeddings and reranking', 'embeddings'],
          ['AI SDK', 'ai-sdk'],
          ['Server', 'server'],
          ['Electron and workers', 'electron'],
          ['Tests', 'testing'],
          ['Bundlers and runtimes', 'runtimes'],
        ),
      },
      {
        text: 'Models',
        items: pages(
          ['Architectures', 'models'],
          ['The hub', 'hub'],
          ['Quantization', 'conversion'],
          ['Formats', 'formats'],
          ['Adapters', 'adapters'],
        ),
      },
      {
        text: 'Running',
        items: pages(
          ['Performance', 'performance'],
          ['Memory', 'memory'],
          ['Benchmarks', 'benchmarks'],
          ['CUDA', 'cuda'],
          ['Troubleshooting', 'troubleshooting'],
          ['Errors', 'errors/'],
        ),
      },
      {
        text: 'Inside',
        items: pages(
          ['Architecture', 'architecture'],
          ['Adding a model', 'adding-a-model'],
          ['Differences from mlx-lm', 'differences'],
        ),
      },
      { text: 'API', items: pages(['Reference', 'api/']) },
    ],
  },
}
