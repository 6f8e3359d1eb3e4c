// Loaded before each test file: tap follows every promise by async hooks, so as to know in which test a stray error came up. That takes a tenth of all time. Without, a stray error is
// said of the file, which fails as well.
import hooks from 'node:async_hooks'
import { syncBuiltinESMExports } from 'node:module'

hooks.createHook = () => ({ enable() {}, disable() {} })
syncBuiltinESMExports()
