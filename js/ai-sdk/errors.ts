// Errors as @ai-sdk/provider makes them. It recognizes them by marks, whoever made them, so that
// nothing of it has to be loaded: it is a module that not every Node.js can require.

import type { NoSuchModelError, UnsupportedFunctionalityError } from '@ai-sdk/provider'

function marked<T extends object>(name: string, message: string, fields: T): Error & T {
  const error = Object.assign(new Error(message), fields)
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true })
  for (const mark of ['vercel.ai.error', `vercel.ai.error.${name}`])
    Object.defineProperty(error, Symbol.for(mark), { value: true })
  return error
}

/** There is no model of that kind. */
export function noSuchModel(
  modelId: string,
  modelType: NoSuchModelError['modelType'],
  why: string,
): Error {
  return marked('AI_NoSuchModelError', `No such ${modelType}: ${modelId}: ${why}`, {
    modelId,
    modelType,
  })
}

/** The model cannot do what is asked for. */
export function unsupportedFunctionality(
  functionality: UnsupportedFunctionalityError['functionality'],
  message: string,
): Error {
  return marked('AI_UnsupportedFunctionalityError', message, { functionality })
}
