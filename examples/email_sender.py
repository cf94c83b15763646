"""A durable sender of e-mail: whoever wants one sent invokes the action `send-email`, and a worker hands it to the mail server.

    flo worker run email_sender:worker                                       # SMTP_HOST and SMTP_PORT name the mail server
    python3 email_sender.py welcome-42 ada@example.com "Welcome" "Hello Ada"  # waits until it is sent

An e-mail that was accepted is in Flo's log. While the mail server is away or says "later", it is tried again, after 1, 2, 4 … seconds,
for about twenty hours. If it says "never" (5xx), the run fails at once. The idempotency key, `welcome-42`, makes it one e-mail however
often the caller asks in the next 24 hours, such as after a crash. One doubt remains in any system: a worker that dies between the mail
server's "250" and its report sends the e-mail again. So the Message-ID is made of the run's id, by which mail systems recognise a
second copy.
"""

import os
import smtplib
import sys
from email.message import EmailMessage

import flo
from flo.worker import Context

worker = flo.Worker(os.environ.get("FLO_URL", "flo://127.0.0.1:9000"), name="mailer")


@worker.action("send-email", max_attempts=32, timeout=60_000)
def send_email(ctx: Context, to: str, subject: str, text: str) -> str:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.com", to, subject
    mail["Message-ID"] = f"<{ctx.run_id}@shop.example.com>"
    mail.set_content(text)
    try:
        with smtplib.SMTP(os.environ.get("SMTP_HOST", "127.0.0.1"), int(os.environ.get("SMTP_PORT", "25")), timeout=30) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as e:
        code, reason = e.recipients[to]
        if code >= 500:
            raise flo.NonRetryable(f"{to} was refused for good: {code} {reason.decode(errors='replace')}") from None
        raise
    except smtplib.SMTPResponseException as e:
        if e.smtp_code >= 500:
            raise flo.NonRetryable(f"the mail server refuses: {e}") from None
        raise
    return f"sent to {to}"


if __name__ == "__main__":
    key, to, subject, text = sys.argv[1:]
    worker.register()  # for the first time, before any worker has started
    run = send_email.options(idempotency_key=key).invoke(to=to, subject=subject, text=text)
    print(f"run {run.id}", flush=True)
    print(run.result())
