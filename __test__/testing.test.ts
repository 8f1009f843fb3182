// What comes for tests: the fake model is as the real one, and the real one is quick and shared.

import { loadModel } from '../js/index.js'
import { fakeModel } from '../js/testing/index.js'
import { demoAnswer, describeModel } from './support/model-suite.js'

describeModel('the fake model', () => Promise.resolve(fakeModel({ answers: demoAnswer })))
describeModel('the demo model', () => loadModel('demo'))
