import { Controller, Get, Header } from '@nestjs/common';
import { Public } from '../auth/public.js';
import { prometheusText } from './prometheus-text.js';
import { Watch } from './watch.js';

@Controller('metrics')
export class MetricsController {
  constructor(private readonly watch: Watch) {}

  /** Public, so that it can be tried with curl. A real shop lets only its Prometheus come here. */
  @Get()
  @Public(true)
  @Header('Content-Type', 'text/plain; version=0.0.4; charset=utf-8')
  async read(): Promise<string> {
    return prometheusText(await this.watch.read());
  }
}
