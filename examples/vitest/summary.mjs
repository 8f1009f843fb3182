/** A text in one sentence. The model is handed in, so that a test can hand in another. */
export async function summarize(model, text) {
  const { text: summary, finishReason } = await model.generate(
    `Say this in one sentence:\n\n${text}`,
    { temperature: 0, maxTokens: 60 },
  )
  if (finishReason === 'length') throw new Error('the summary does not come to an end')
  return summary.trim()
}
