// The page: a conversation, whose last answer grows as it comes.
const { document, model } = globalThis
const byId = (id) => document.getElementById(id)
const messages = []

function show(text) {
  const paragraph = document.createElement('p')
  paragraph.textContent = text
  byId('conversation').append(paragraph)
  return paragraph
}

byId('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const content = byId('question').value
  byId('question').value = ''
  messages.push({ role: 'user', content })
  show(content)
  const answer = show('')
  const { done, stop } = model.ask(messages, (text) => answer.append(text))
  byId('stop').disabled = false
  byId('stop').onclick = stop
  const { error } = await done
  byId('stop').disabled = true
  if (error) answer.append(` (${error.message})`)
  messages.push({ role: 'assistant', content: answer.textContent })
})
