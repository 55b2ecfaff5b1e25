/**
 * Lets injected repositories join the atomic transaction by themselves. Opt-in, since it replaces a
 * property of objects that are the application's: each repository's `manager`, from which all its
 * queries go out, becomes the one to use right now.
 */
import type { ModulesContainer } from '@nestjs/core';
import { Repository } from 'typeorm';
import type { EntityManager } from 'typeorm';
import { currentExecution, demandContext } from './context.js';
import { HandlerExecution } from './handler-execution.js';
import type { ApplicationDatabase } from './module-store.js';

export function joinRepositories(modules: ModulesContainer, { dataSource }: ApplicationDatabase, instance: object): void {
  demandContext();
  for (const module of modules.values()) {
    for (const { instance: provided } of module.providers.values()) {
      if (provided instanceof Repository && provided.manager.connection === dataSource) join(provided, instance);
    }
  }
}

function join(repository: Repository<object>, instance: object): void {
  const { manager } = repository;
  Object.defineProperty(repository, 'manager', {
    configurable: true,
    enumerable: true,
    get: (): EntityManager => {
      const execution = currentExecution(instance);
      return execution instanceof HandlerExecution && execution.partOf !== undefined ? execution.manager : manager;
    },
  });
}
