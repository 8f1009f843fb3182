// The chat page: its Markdown, its files, and all of it in a real Chromium.

import { networkInterfaces } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseBlocks, parseInline, safeHref } from '../js/server/page/markdown.js'
import { serve, type RunningServer } from '../js/server/index.js'
import { fakeModel, type FakeAnswer, type FakeRequest } from '../js/testing/index.js'
import { findChromium, installDriver, runBrowser } from './support/browser.js'
import { Client } from './support/http.js'

const blocks = (text: string): unknown[] => parseBlocks(text).map(({ block }) => block)
const text = (content: string) => ({ type: 'text', text: content })

describe('Markdown', () => {
  it.each<[string, unknown[]]>([
    ['a *b* c', [text('a '), { type: 'emphasis', children: [text('b')] }, text(' c')]],
    [
      '**a _b_**',
      [{ type: 'strong', children: [text('a '), { type: 'emphasis', children: [text('b')] }] }],
    ],
    ['***a***', [{ type: 'strong', children: [{ type: 'emphasis', children: [text('a')] }] }]],
    ['~~a~~', [{ type: 'strike', children: [text('a')] }]],
    ['`a*b*`', [{ type: 'code', text: 'a*b*' }]],
    ['``a`b``', [{ type: 'code', text: 'a`b' }]],
    ['snake_case_name', [text('snake_case_name')]],
    ['2 * 3 * 4', [text('2 * 3 * 4')]],
    [String.raw`\*a\*`, [text('*a*')]],
    ['**open', [text('**open')]],
    ['a\nb', [text('a'), { type: 'break' }, text('b')]],
    [
      '[a](https://x.y/z_(w))',
      [{ type: 'link', href: 'https://x.y/z_(w)', children: [text('a')] }],
    ],
    [
      '(https://x.y/a).',
      [
        text('('),
        { type: 'link', href: 'https://x.y/a', children: [text('https://x.y/a')] },
        text(').'),
      ],
    ],
    ['[a](javascript:alert(1))', [{ type: 'emphasis', children: [text('a')] }]],
    ['<b>a</b>', [text('<b>a</b>')]],
  ])('reads %j', (source, expected) => {
    expect(parseInline(source)).toEqual(expected)
  })

  it.each<[string, object[]]>([
    ['# A', [{ type: 'heading', level: 1 }]],
    ['```js\na\n```', [{ type: 'code', language: 'js', text: 'a', closed: true }]],
    ['```js\na', [{ type: 'code', language: 'js', text: 'a', closed: false }]],
    ['~~~\n```\n~~~', [{ type: 'code', text: '```' }]],
    ['> a\n> b', [{ type: 'quote', children: [{ type: 'paragraph' }] }]],
    ['---', [{ type: 'rule' }]],
    ['- a\n- b\n\nc', [{ type: 'list', items: [{}, {}] }, { type: 'paragraph' }]],
    ['3. a\n4. b', [{ type: 'list', start: 3, items: [{}, {}] }]],
    ['- [x] a', [{ type: 'list', items: [{ checked: true }] }]],
    ['- a\n  - b\n    ```\n    c\n    ```', [{ type: 'list', items: [{}] }]],
    ['1. a\n\n   b\n2. c', [{ type: 'list', items: [{}, {}] }]],
    ['| a | b |\n|---|--:|\n| 1 | 2 |', [{ type: 'table', align: [undefined, 'right'] }]],
    ['a\n# b', [{ type: 'paragraph' }, { type: 'heading' }]],
  ])('has blocks: %j', (source, expected) => {
    expect(blocks(source)).toMatchObject(expected)
  })

  it('ends, whatever is written, and makes nothing up', () => {
    const signs = [
      '*',
      '_',
      '`',
      '[',
      ']',
      '(',
      ')',
      '#',
      '>',
      '- ',
      '1. ',
      '|',
      '\n',
      '\\',
      '~~',
      'a',
      ' ',
      '```',
      '<',
    ]
    let seed = 1
    const next = (): string => {
      seed = (seed * 48_271) % 2_147_483_647
      return signs[seed % signs.length] ?? ''
    }
    for (let round = 0; round < 500; round++) {
      const source = Array.from({ length: 60 }, next).join('')
      const letters = JSON.stringify(blocks(source)).match(/"(?:text|language)":"[^"]*"/g) ?? []
      const kept = letters
        .join('')
        .replaceAll(/"(?:text|language)":/g, '')
        .split('a').length
      expect(kept, source).toBeLessThanOrEqual(source.split('a').length)
    }
    for (const nasty of [
      '*'.repeat(20_000),
      '['.repeat(20_000),
      '> '.repeat(5000),
      '`a'.repeat(5000),
    ])
      expect(blocks(nasty).length).toBeGreaterThan(0)
  })

  // Each takes half a minute, or more memory than there is, where the time grows with the square.
  it.each([
    ['emphasis that nothing ends', '*a **b _c __d ~~e '.repeat(20_000)],
    ['code that nothing ends', '*a `b ``c '.repeat(60_000)],
    ['links that nothing ends', '[a *b [c]( '.repeat(60_000)],
    ['items with gaps', '- a\n\n'.repeat(120_000)],
    ['gaps in an item', `- a${'\n'.repeat(150_000)}  b`],
    [
      'a table that is wide and long',
      `${'|a'.repeat(12_000)}\n${'|-'.repeat(12_000)}\n${'|\n'.repeat(12_000)}`,
    ],
  ])('takes no longer for %s', (_, source) => {
    const start = performance.now()
    expect(blocks(source).length).toBeGreaterThan(0)
    expect(performance.now() - start).toBeLessThan(15_000)
  })

  it('links to pages and mails alone', () => {
    for (const href of ['https://x.y', 'http://x', 'mailto:a@b.c'])
      expect(safeHref(href)).toBeDefined()
    for (const href of [
      'javascript:1',
      'JaVaScript:1',
      'data:text/html,x',
      '//x.y',
      '/x',
      'file:///x',
    ])
      expect(safeHref(href)).toBeUndefined()
  })
})

describe('the files of the page', () => {
  it('have a policy that lets nothing else in, and are asked for anew only where they changed', async () => {
    const client = new Client({ apiKey: 'x' })
    const page = await client.get('/')
    expect(page.status).toBe(200)
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    const html = await page.text()
    for (const [, path = ''] of html.matchAll(/(?:src|href)="(page\/[^"]+)"/g))
      expect((await client.get(`/${path}`)).status).toBe(200)
    const etag = page.headers.get('etag') ?? ''
    expect((await client.get('/', { 'if-none-match': etag })).status).toBe(304)
    for (const path of ['/page/../index.js', '/page/tsconfig.json', '/page/nothing.js'])
      expect((await client.get(path)).status).not.toBe(200)
    await client.handler.close()
  })

  it('ask browsers for nothing that those refuse over plain HTTP', async () => {
    const client = new Client({ apiKey: 'x' })
    const policy = async (url: string, headers: Record<string, string> = {}) => {
      const page = await client.handler(new Request(url, { headers }))
      expect(page.status).toBe(200)
      return page.headers.get('cross-origin-opener-policy')
    }
    expect(await policy('http://localhost/')).toBe('same-origin')
    expect(await policy('https://chat.example/')).toBe('same-origin')
    expect(await policy('http://chat.example/', { 'x-forwarded-proto': 'https' })).toBe(
      'same-origin',
    )
    expect(await policy('http://192.0.2.2:8080/')).toBeNull()
    await client.handler.close()
  })

  it('are not there where they are not wanted', async () => {
    const client = new Client({ page: false })
    expect((await client.get('/')).status).toBe(404)
    await client.handler.close()
  })
})

const MARKDOWN = `# A heading

Some **bold** text, a [link](https://example.com/) and a [bad one](javascript:alert(1)).

1. One
2. Two

| A | B |
|---|--:|
| 1 | 2 |

\`\`\`js
const one = 1
\`\`\`

<img src=x onerror=alert(1)> <script>window.pwned = true</script>`

function answers({ messages = [], options }: FakeRequest): string | FakeAnswer {
  const contentOf = (message: (typeof messages)[number] | undefined): string =>
    typeof message?.content === 'string' ? message.content : ''
  const said = contentOf(messages.at(-1))
  switch (said) {
    case 'markdown':
      return MARKDOWN
    case 'think':
      return { reasoning: 'I have to think.', text: 'Thought.' }
    case 'tool':
      return { toolCalls: [{ name: 'get_weather', arguments: { city: 'Paris' } }] }
    case 'long':
      return { text: 'word '.repeat(2000), tokenMs: 20 }
    case 'fail':
      return { error: { code: 'MLX_ERROR', message: 'out of memory' } }
    case 'settings': {
      const { temperature, maxTokens } = options
      const words = `system ${contentOf(messages[0])}, temperature ${String(temperature)}, at most ${String(maxTokens)}`
      return { text: [words] }
    }
    default:
      return `You said: ${said}`
  }
}

const chromium = findChromium()

describe.skipIf(chromium === undefined)('in Chromium', () => {
  const servers: RunningServer[] = []
  // What a browser trusts less than an address of this machine alone.
  const address = Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .find(({ internal, family }) => !internal && family === 'IPv4')?.address

  beforeAll(async () => {
    installDriver()
    const models = { fake: fakeModel({ answers }) }
    servers.push(
      await serve({ models, port: 0 }),
      await serve({ models, port: 0, apiKey: 'secret' }),
    )
    if (address !== undefined)
      servers.push(await serve({ models, port: 0, host: address, apiKey: 'secret' }))
  }, 300_000)
  afterAll(() => Promise.all(servers.map((server) => server.close(0))))

  it('the chat page works', async () => {
    if (chromium === undefined) return
    const [open, keyed, plain] = servers
    const settings = { BASE_URL: open?.url, KEYED_URL: keyed?.url, PLAIN_URL: plain?.url }
    const { code, stdout, stderr } = await runBrowser('chat-page', chromium, settings)
    const failed = stdout.split('\n').filter((line) => line.startsWith('not ok'))
    expect(failed, `${stdout}\n${stderr}`).toEqual([])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^# pass [1-9]/m)
  }, 300_000)
})
