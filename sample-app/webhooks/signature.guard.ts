import { Inject, Injectable, UnauthorizedException } from '@nestjs/common';
import type { CanActivate, ExecutionContext, RawBodyRequest } from '@nestjs/common';
import type { Request } from 'express';
import { SIGNATURE_HEADER, isGenuine } from './signature.js';

export const WEBHOOK_SECRET = Symbol('WEBHOOK_SECRET');

/** Guards come before anything is claimed or replayed: a forged event takes no key, and learns nothing of a genuine one. */
@Injectable()
export class SignatureGuard implements CanActivate {
  constructor(@Inject(WEBHOOK_SECRET) private readonly secret: string) {}

  canActivate(context: ExecutionContext): boolean {
    const { headers, rawBody } = context.switchToHttp().getRequest<RawBodyRequest<Request>>();
    const signature = headers[SIGNATURE_HEADER];
    const genuine = typeof signature === 'string' && rawBody !== undefined && isGenuine(this.secret, signature, rawBody, Date.now() / 1000);
    if (!genuine) throw new UnauthorizedException('The signature is missing, too old or wrong.');
    return true;
  }
}
