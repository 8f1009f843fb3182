import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['__test__/**/*.test.ts'],
    globalSetup: ['__test__/support/global-setup.ts'],
    // A native addon and worker threads of the test runner do not go together when a test crashes.
    pool: 'forks',
    // Two, on two cores as well: half of the tests wait for clocks, sockets and children.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
})
