export { linkContract } from './testing/link-contract.ts'
export type { Answering, ContractLink, ContractServer, ContractTest, LinkContractOptions } from './testing/link-options.ts'
export { type MemoryLinkOptions, memoryLink } from './transport/memory.ts'
