import type { Call } from './call.js'
import { Failure } from './failure.js'
import { record, required } from './fields.js'
import { string } from '../validate.js'

/** A route for models of a kind that this package does not run: it says so, in the API's shape. */
export function unsupported(what: string): (call: Call, body: unknown) => never {
  return ({ engine }, body) => {
    const model = string(required(record(body, 'body')['model'], 'model'), 'model')
    engine.models.find(model)
    throw new Failure('invalid', `the model ${model} does not support ${what}`, {
      param: 'model',
      code: 'unsupported_model',
    })
  }
}
