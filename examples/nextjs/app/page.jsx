'use client'

import { useChat } from '@ai-sdk/react'
import { useState } from 'react'

export default function Page() {
  const { messages, sendMessage, status, stop, error } = useChat()
  const [text, setText] = useState('')
  const isIdle = status === 'ready' || status === 'error'

  function send(event) {
    event.preventDefault()
    if (text.trim() === '') return
    sendMessage({ text })
    setText('')
  }

  return (
    <main>
      {messages.map(({ id, role, parts }) => (
        <p key={id}>
          <b>{role}: </b>
          {parts.map((part, index) => part.type === 'text' && <span key={index}>{part.text}</span>)}
        </p>
      ))}
      {error && <p role="alert">There is no answer: {error.message}</p>}
      <form onSubmit={send}>
        <input value={text} onChange={(event) => setText(event.target.value)} autoFocus />
        {isIdle ? (
          <button>Send</button>
        ) : (
          <button type="button" onClick={stop}>
            Stop
          </button>
        )}
      </form>
    </main>
  )
}
