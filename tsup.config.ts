import { defineConfig } from 'tsup'

export default defineConfig({
  entry: {
    index: 'src/index.ts',
    sqlite: 'src/adapters/sqlite/adapter.ts',
    postgres: 'src/adapters/postgres/adapter.ts',
    http: 'src/transport/http.ts',
    file: 'src/transport/file.ts',
    nats: 'src/transport/nats.ts',
    testing: 'src/testing.ts',
  },
  format: 'esm',
  target: 'node22',
  platform: 'node',
  dts: true,
  sourcemap: true,
  splitting: true,
  clean: true,
})
