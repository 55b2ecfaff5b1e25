import { IsEmail, Length } from 'class-validator';

export class SendMessageDto {
  /** Where the shop's answer goes. */
  @IsEmail()
  email!: string;

  @Length(1, 5000)
  message!: string;
}
