// Loaded before each test file: what Node has compiled and stripped of types is kept for the next process, of tests and of their children.
import { enableCompileCache } from 'node:module'

const { directory } = enableCompileCache()
if (directory !== undefined) process.env.NODE_COMPILE_CACHE = directory
