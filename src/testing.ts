export { type MemoryLinkOptions, memoryLink } from './transport/memory.ts'
