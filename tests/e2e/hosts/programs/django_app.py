"""A Django application that passes the answer of a model on to a browser."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_GET
from models import HEARTBEAT, client_of

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="not a secret")


@require_GET  # the answer to HEAD would be read to its end, with nothing written
def answer(request):
    stream = client_of(request.GET["port"]).stream("Hi")
    return StreamingHttpResponse(stream.sse(HEARTBEAT), content_type="text/event-stream")


urlpatterns = [path("answer", answer)]
application = get_wsgi_application()
