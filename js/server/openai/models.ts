import { json, type Call } from '../call.js'
import type { PooledModel } from '../../model-pool.js'

/** `GET /v1/models` */
export function listModels({ engine, request }: Call, started: number): Response {
  const { models } = engine.models
  // Both APIs have this route; the header is Anthropic's.
  if (request.headers.has('anthropic-version')) {
    const data = models.map((model) => anthropicModel(model, started))
    return json({
      data,
      has_more: false,
      first_id: models[0]?.id ?? null,
      last_id: models.at(-1)?.id ?? null,
    })
  }
  return json({ object: 'list', data: models.map((model) => openaiModel(model, started)) })
}

/** `GET /v1/models/<id>` */
export function describeModel({ engine, request }: Call, id: string, started: number): Response {
  const model = engine.models.find(id)
  const isAnthropic = request.headers.has('anthropic-version')
  return json(isAnthropic ? anthropicModel(model, started) : openaiModel(model, started))
}

function openaiModel({ id, model, loading }: PooledModel, started: number): object {
  const { maxContextLength, contextLength } = model?.info ?? {}
  const length = Math.min(maxContextLength ?? Infinity, contextLength ?? Infinity)
  return {
    id,
    object: 'model',
    created: Math.floor(started / 1000),
    owned_by: 'nodemlx',
    state: model !== undefined ? 'loaded' : loading ? 'loading' : 'not-loaded',
    // vLLM's name; what a model is loaded with is known once it is loaded.
    ...(Number.isFinite(length) ? { max_model_len: length } : {}),
  }
}

function anthropicModel({ id }: PooledModel, started: number): object {
  return {
    type: 'model',
    id,
    display_name: id,
    created_at: new Date(started).toISOString(),
  }
}
