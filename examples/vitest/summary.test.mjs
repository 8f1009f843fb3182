// A suite for code that asks a model: with a fake one, whose answers the test decides, and with
// the demo model, which is real, quick and says the same on every run.
//
//     npm install nodemlx vitest
//     npx vitest run

import { fakeModel, testModel } from 'nodemlx/testing'
import { describe, expect, it } from 'vitest'
import { summarize } from './summary.mjs'

describe('a summary', () => {
  it('is what the model answers, without white space around it', async () => {
    const model = fakeModel({ answers: '  All is well. \n' })
    expect(await summarize(model, 'A long report.')).toBe('All is well.')
    expect(model.requests[0].messages[0].content).toContain('A long report.')
  })

  it('that does not end is an error', async () => {
    const model = fakeModel({ answers: { text: 'And then', finishReason: 'length' } })
    await expect(summarize(model, 'A long report.')).rejects.toThrow('to an end')
  })

  it('is an error where the model fails', async () => {
    const model = fakeModel({ answers: { error: { code: 'MLX_ERROR' } } })
    await expect(summarize(model, 'A long report.')).rejects.toMatchObject({ code: 'MLX_ERROR' })
  })

  it('comes from a real model, too', async () => {
    expect(await summarize(await testModel(), 'The sun is warm.')).not.toBe('')
  })
})
