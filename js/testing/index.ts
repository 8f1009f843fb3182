export { fakeModel, type FakeModel, type FakeModelOptions } from './fake-model.js'
export { testModel, type TestModelOptions } from './test-model.js'
export type {
  FakeAnswer,
  FakeAnswers,
  FakeError,
  FakePart,
  FakeRequest,
  FakeText,
  FakeToolCall,
} from './answers.js'
