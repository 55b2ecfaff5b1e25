import { Injectable, UnauthorizedException } from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { AuthenticatedRequest } from './current-user.js';
import { Public } from './public.js';
import { DEMO_USERS } from './users.js';

/** Sets `request.user`, which is also what tells one caller's idempotency keys from another's. */
@Injectable()
export class AuthGuard implements CanActivate {
  constructor(private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    if (this.reflector.get(Public, context.getHandler())) return true;
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    const user = token && DEMO_USERS.get(token);
    if (!user) throw new UnauthorizedException('Send a bearer token, such as "Authorization: Bearer alice-token".');
    request.user = user;
    return true;
  }
}
