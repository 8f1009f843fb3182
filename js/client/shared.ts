import { NodeMlxError } from '../errors.js'
import { modelsMade, type LoadedModel } from '../model.js'

/** How many clients of this process's hosts use a model that was loaded for one of them. */
const users = new WeakMap<LoadedModel, number>()

/** A client's part in a model, which others may use, too. */
export class ModelShare {
  readonly model: LoadedModel
  readonly #isOwn: boolean
  #givenBack: Promise<void> | undefined

  private constructor(model: LoadedModel, isOwn: boolean) {
    this.model = model
    this.#isOwn = isOwn
    if (isOwn) users.set(model, (users.get(model) ?? 0) + 1)
  }

  /**
   * Has a client use what is loaded for it. A model that was there before is the host's own, unless
   * it was loaded for another client.
   */
  static async of(load: () => Promise<LoadedModel>): Promise<ModelShare> {
    const before = modelsMade()
    const model = await load()
    if (model.disposed)
      throw new NodeMlxError(
        'DISPOSED',
        'load: the model that it gave has been disposed of: load it anew',
      )
    return new ModelShare(model, model.number > before || users.has(model))
  }

  /** Disposes of the model where its last client has left. */
  giveBack(): Promise<void> {
    this.#givenBack ??= this.#leave()
    return this.#givenBack
  }

  async #leave(): Promise<void> {
    if (!this.#isOwn) return
    const left = (users.get(this.model) ?? 1) - 1
    users.set(this.model, left)
    if (left === 0) await this.model.dispose()
  }
}
