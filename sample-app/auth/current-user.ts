import { createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import type { Request } from 'express';
import type { User } from './users.js';

export interface AuthenticatedRequest extends Request {
  user: User;
}

export const CurrentUser = createParamDecorator(
  (_data: undefined, context: ExecutionContext): User => context.switchToHttp().getRequest<AuthenticatedRequest>().user,
);
