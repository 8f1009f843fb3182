// The chat page in a real Chromium: the server at BASE_URL has a fake model, the one at KEYED_URL
// wants a key, and so does the one at PLAIN_URL, which is no address of this machine alone. Pictures
// of the page go into the folder PICTURES.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, test } from 'node:test'
import { chromium } from 'playwright-core'

const { BASE_URL, KEYED_URL, PLAIN_URL, CHROMIUM, PICTURES } = process.env
const DESKTOP = { width: 1200, height: 800 }
const PHONE = { width: 390, height: 780 }

let browser
let context
let page
/** What the browser complained about. */
let complaints

before(async () => {
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    // A container has no user namespaces, and little shared memory.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  })
})
after(() => browser?.close())

beforeEach(async () => {
  context = await browser.newContext({ viewport: DESKTOP, colorScheme: 'light' })
  context.setDefaultTimeout(20_000)
  page = await newPage()
  await page.goto(BASE_URL)
  await page.waitForFunction(() => document.querySelector('#model')?.value !== '')
})
afterEach(async () => {
  await context.close()
  assert.deepEqual(complaints, [])
})

async function newPage() {
  complaints = []
  const opened = await context.newPage()
  opened.on('pageerror', (error) => complaints.push(String(error)))
  opened.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text())
  })
  return opened
}

const answers = () => page.locator('.turn.assistant')
const status = (text) => page.locator('#status', { hasText: text }).waitFor({ state: 'attached' })
const button = (name) => page.getByRole('button', { name, exact: true })

async function say(text, ends = 'The answer is complete') {
  const before = await answers().count()
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.keyboard.press('Enter')
  await page.waitForFunction(
    (count) => document.querySelectorAll('.turn.assistant').length > count,
    before,
  )
  await status(ends)
}

const picture = (name) => page.screenshot({ path: join(PICTURES, `${name}.png`) })

test('a question is answered, with speed and context', async () => {
  await say('Hello there')
  assert.match(await answers().last().innerText(), /You said: Hello there/)
  assert.match(
    await answers().last().locator('.stats').innerText(),
    /^\d+ tokens, [\d.]+ tokens\/s/,
  )
  assert.match(await page.locator('#context-text').innerText(), /^\d+ of 4096 tokens$/)
  assert.equal(await page.getByRole('heading', { level: 1 }).innerText(), 'Hello there')
  assert.equal(await page.locator('#chats li').count(), 1)
})

test('Markdown is shown, and nothing of it runs', async () => {
  await say('markdown')
  const answer = answers().last()
  assert.equal(await answer.locator('h3').innerText(), 'A heading')
  assert.equal(await answer.locator('strong').first().innerText(), 'bold')
  assert.equal(await answer.locator('ol > li').count(), 2)
  assert.equal(await answer.locator('td').first().innerText(), '1')
  assert.equal(await answer.locator('pre code').innerText(), 'const one = 1')
  assert.deepEqual(
    await answer.locator('a').evaluateAll((links) => links.map((link) => [link.href, link.rel])),
    [['https://example.com/', 'noopener noreferrer']],
  )
  for (const tag of ['script', 'img', 'iframe'])
    assert.equal(await answer.locator(tag).count(), 0, tag)
  assert.match(await answer.innerText(), /<img src=x onerror=alert\(1\)>/)
  assert.equal(await page.evaluate(() => window.pwned), undefined)
  await picture('desktop-light')
})

test('code can be copied', async () => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'])
  await say('markdown')
  await button('Copy the js').click()
  await page.getByText('Copied').waitFor()
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'const one = 1')
})

test('reasoning is folded, and calls of tools are shown', async () => {
  await say('think')
  const reasoning = answers().last().locator('details.reasoning')
  assert.equal(await reasoning.evaluate((details) => details.open), false)
  await reasoning.locator('summary').click()
  assert.match(await reasoning.innerText(), /I have to think/)
  await say('tool')
  assert.match(await answers().last().locator('details.call').innerText(), /Calls get_weather/)
  await answers().last().locator('details.call summary').click()
  assert.match(await answers().last().locator('details.call pre').innerText(), /"city": "Paris"/)
  await picture('reasoning-and-tools')
})

test('an answer is stopped by Esc and by the button, and tried again', async () => {
  for (const stop of [() => page.keyboard.press('Escape'), () => button('Stop').click()]) {
    await page.getByLabel('Message', { exact: true }).fill('long')
    await page.keyboard.press('Enter')
    await button('Stop').waitFor()
    await page.waitForFunction(() =>
      [...document.querySelectorAll('.turn.assistant')].at(-1)?.innerText.includes('word word'),
    )
    await stop()
    await button('Send').waitFor()
    await status('The answer was stopped')
    assert.match(await answers().last().innerText(), /· stopped/)
  }
  await say('Hello')
  await answers().last().getByRole('button', { name: 'Answer again' }).click()
  await page.getByText('2 / 2').waitFor()
  await button('The one before').last().click()
  await page.getByText('1 / 2').waitFor()
})

test('a message is edited, and both are kept', async () => {
  await say('First')
  await page.getByRole('button', { name: 'Edit the message' }).click()
  await page.getByLabel('The message, edited').fill('Second')
  await page.keyboard.press('Enter')
  await page.getByText('You said: Second').waitFor()
  await page.getByText('2 / 2').waitFor()
  await page.locator('.turn.user').getByRole('button', { name: 'The one before' }).click()
  await page.getByText('You said: First').waitFor()
})

test('a chat is forked, kept by the browser, and deleted', async () => {
  await say('Keep me')
  await page.getByRole('button', { name: 'Go on in a chat of its own' }).click()
  await page.getByRole('heading', { level: 1, name: 'Keep me (fork)' }).waitFor()
  await say('More')
  await page.reload()
  await page.getByText('You said: More').waitFor()
  assert.equal(await page.locator('#chats li').count(), 2)
  await page.locator('#chats').getByRole('button', { name: 'Keep me', exact: true }).click()
  await page.getByText('You said: Keep me').waitFor()
  assert.equal(await page.getByText('You said: More').count(), 0)
  await button('Delete Keep me').click()
  await page.waitForFunction(() => document.querySelectorAll('#chats li').length === 1)
  assert.equal(await page.locator('.turn').count(), 0)
})

test('an answer is kept while it is written, and does not bring back what was deleted', async () => {
  const ask = async () => {
    await page.getByLabel('Message', { exact: true }).fill('long')
    await page.keyboard.press('Enter')
    await answers().last().getByText('word word').waitFor()
  }
  await ask()
  assert.equal(await page.locator('#chats li').count(), 1)
  await page.waitForTimeout(1500)
  await page.reload()
  await answers().last().getByText('word word').waitFor()
  assert.equal(await page.locator('.turn.user .said').innerText(), 'long')
  assert.match(await answers().last().innerText(), /· stopped/)
  await button('New chat').click()
  await ask()
  await button('Delete long').first().click()
  await status('The answer was stopped')
  await page.reload()
  await answers().last().getByText('word word').waitFor()
  assert.equal(await page.locator('#chats li').count(), 1)
})

test('who asks while an answer is written loses nothing, and is told', async () => {
  await say('First')
  await page.getByLabel('Message', { exact: true }).fill('long')
  await page.keyboard.press('Enter')
  await button('Stop').waitFor()
  await page.getByRole('button', { name: 'Edit the message' }).first().click()
  await page.getByLabel('The message, edited').fill('Second')
  await page.keyboard.press('Enter')
  await page.getByRole('alert').getByText('Another answer is being written').waitFor()
  await button('Stop').click()
  await status('The answer was stopped')
  assert.equal(await page.getByRole('alert').innerText(), '')
  await page.getByLabel('The message, edited').press('Enter')
  await page.getByText('You said: Second').waitFor()
})

test('several tabs share the chats, and lose nothing of each other', async () => {
  await say('Base')
  const first = page
  const second = await context.newPage()
  await second.goto(BASE_URL)
  await second.getByText('You said: Base').waitFor()
  page = second
  await say('From the second')
  await first.getByText('You said: From the second').waitFor()
  // As if the first had not heard of it yet.
  await first.evaluate(() => {
    globalThis.BroadcastChannel.prototype.postMessage = () => undefined
  })
  await second.evaluate(() => {
    globalThis.BroadcastChannel.prototype.postMessage = () => undefined
  })
  await say('Quietly, from the second')
  page = first
  await say('From the first')
  await second.reload()
  await second.getByText('You said: From the first').waitFor()
  const shown = second.locator('.turn.user', { hasText: 'From the first' })
  await shown.getByRole('button', { name: 'The one before' }).click()
  await second.getByText('You said: Quietly, from the second').waitFor()
  page = second
  await button('New chat').click()
  await say('Another chat')
  assert.equal(await second.locator('#chats li').count(), 2)
  await second.close()
  page = first
})

test('what fails is told, and can be tried again', async () => {
  await say('fail', 'The answer failed')
  await page.getByRole('alert').getByText('out of memory').waitFor()
  assert.match(await answers().last().innerText(), /out of memory/)
  complaints = complaints.filter((text) => !text.includes('status of 500'))
})

test('an answer that breaks off is not taken for a complete one', async () => {
  const half = 'data: {"choices":[{"delta":{"content":"half an ans"}}]}\n\n'
  await page.route('**/v1/chat/completions', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: half }),
  )
  await say('Hello', 'The answer failed')
  await page.getByRole('alert').getByText('broke off').waitFor()
  assert.match(await answers().last().innerText(), /half an ans/)
})

test('a server that is gone is told in words', async () => {
  await page.route('**/v1/chat/completions', (route) => route.abort('connectionrefused'))
  await say('Hello', 'The answer failed')
  await page.getByRole('alert').getByText('the server cannot be reached').waitFor()
  complaints = complaints.filter((text) => !text.includes('ERR_CONNECTION_REFUSED'))
})

test('settings go with the request', async () => {
  await button('Settings').click()
  await page.getByLabel('System prompt of this chat').fill('Be kind.')
  await page.getByLabel('Temperature').fill('1.5')
  await page.getByLabel('Most tokens of an answer').fill('7')
  await page.getByLabel('Colours').selectOption('dark')
  await picture('settings')
  await button('Save').click()
  await say('settings')
  assert.match(await answers().last().innerText(), /system Be kind\., temperature 1/)
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  assert.equal(await background(), 'rgb(22, 25, 24)')
  await page.reload()
  assert.equal(await background(), 'rgb(22, 25, 24)')
})

test('who asks before the models are known waits for them', async () => {
  page = await newPage()
  let answerModels
  const asked = new Promise((resolve) => (answerModels = resolve))
  await page.route('**/v1/models', async (route) => {
    await asked
    await route.continue()
  })
  await page.goto(BASE_URL)
  await page.getByLabel('Message', { exact: true }).fill('Hello')
  await page.keyboard.press('Enter')
  await button('Stop').waitFor()
  answerModels()
  await page.getByText('You said: Hello').waitFor()
})

test('a key is asked for', async () => {
  page = await newPage()
  await page.goto(KEYED_URL)
  await page.getByLabel('API key').fill('secret')
  await page.keyboard.press('Enter')
  await say('Hello')
  assert.match(await answers().last().innerText(), /You said: Hello/)
  // The first request had no key, and the browser says so.
  assert.deepEqual(
    complaints.filter((text) => !text.includes('401')),
    [],
  )
  complaints.length = 0
})

test('over plain HTTP from other machines it works, too', { skip: !PLAIN_URL }, async () => {
  page = await newPage()
  await page.goto(PLAIN_URL)
  assert.equal(await page.evaluate(() => document.defaultView.isSecureContext), false)
  await page.getByLabel('API key').fill('secret')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.querySelector('#model')?.value !== '')
  await say('markdown')
  await button('Copy the js').click()
  await page.getByText('Copied').waitFor()
  const message = page.getByLabel('Message', { exact: true })
  await message.focus()
  await page.keyboard.press('Control+V')
  assert.equal(await message.inputValue(), 'const one = 1')
  complaints = complaints.filter((text) => !text.includes('401'))
})

test('on a phone the chats come over the page, and nothing is wider than it', async () => {
  await page.setViewportSize(PHONE)
  await page.emulateMedia({ colorScheme: 'dark' })
  await say('markdown')
  await say('think')
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  )
  assert.equal(overflow, 0)
  await picture('phone-dark')
  const chats = page.getByRole('navigation', { name: 'Chats' })
  assert.equal(await chats.isVisible(), false)
  await button('Chats').click()
  assert.equal(await chats.isVisible(), true)
  await picture('phone-chats')
  await page.keyboard.press('Escape')
  assert.equal(await chats.isVisible(), false)
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'menu')
})

test('everything has a name, and is reached by the keyboard', async () => {
  await say('markdown')
  const unnamed = await page.evaluate(() =>
    [...document.querySelectorAll('button, select, textarea, input, meter, summary')]
      .filter((item) => item.checkVisibility())
      .filter((item) => {
        const label = item.labels?.[0]?.textContent ?? ''
        const name = item.getAttribute('aria-label') ?? (label || item.textContent)
        return (name ?? '').trim() === ''
      })
      .map((item) => item.outerHTML),
  )
  assert.deepEqual(unnamed, [])
  await page.locator('body').press('Tab')
  const seen = new Set()
  for (let presses = 0; presses < 40; presses++) {
    seen.add(
      await page.evaluate(() => document.activeElement?.id || document.activeElement?.className),
    )
    await page.keyboard.press('Tab')
  }
  for (const id of ['new-chat', 'model', 'open-settings', 'prompt', 'send', 'quiet', 'table'])
    assert.ok(seen.has(id), `${id} of ${[...seen].join(', ')}`)
})

test('nothing of other sites may be in it, and no other page may frame it', async () => {
  const response = await page.request.get(BASE_URL)
  const policy = response.headers()['content-security-policy']
  assert.match(policy, /default-src 'none'/)
  assert.match(policy, /frame-ancestors 'none'/)
  const blocked = await page.evaluate(async () => {
    try {
      document.body.innerHTML = '<b>x</b>'
      return false
    } catch {
      return true
    }
  })
  assert.ok(blocked, 'innerHTML is refused by the policy')
  complaints = complaints.filter((text) => !text.includes('TrustedHTML'))
})
