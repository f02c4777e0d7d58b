"""A Django application for ASGI that passes the answer of a model on to a browser."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import StreamingHttpResponse
from django.urls import path
from models import HEARTBEAT, client_of

settings.configure(ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="not a secret")


def answer(request):
    stream = client_of(request.GET["port"]).stream("Hi")
    return StreamingHttpResponse(aiter(stream.sse(HEARTBEAT)), content_type="text/event-stream")


urlpatterns = [path("answer", answer)]
application = get_asgi_application()
