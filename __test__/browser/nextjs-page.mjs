// The page of the Next.js example in a real Chromium: it is served at BASE_URL.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'

const { BASE_URL, CHROMIUM, PICTURES } = process.env

let browser
before(async () => {
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    // A container has no user namespaces, and little shared memory.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  })
})
after(() => browser?.close())

test('questions are answered', async () => {
  const page = await browser.newPage()
  page.setDefaultTimeout(30_000)
  const complaints = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  await page.goto(BASE_URL)
  for (const [question, answer] of [
    ['What is the capital of France?', 'Paris'],
    ['What is the capital of Italy?', 'Rome'],
  ]) {
    await page.getByRole('textbox').fill(question)
    await page.getByRole('button', { name: 'Send' }).click()
    await page.locator('p', { hasText: 'assistant' }).filter({ hasText: answer }).waitFor()
    await page.getByRole('button', { name: 'Send' }).waitFor()
  }
  assert.equal(await page.locator('p').count(), 4)
  await page.screenshot({ path: join(PICTURES, 'nextjs-page.png') })
  assert.deepEqual(complaints, [])
})
