import { mergeConfig } from 'vitest/config'
import config from '../../vitest.config.mjs'

const own = { test: { include: ['__test__/nextjs/*.spec.ts'] } }

// Large, and slow to build: a run of its own, npm run test:nextjs.
export default { ...mergeConfig(config, own), test: { ...config.test, ...own.test } }
