"""Every URL of the site: the API, its documentation, health and the admin, to which the bare address leads."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("backend.tradingbot.api.urls")),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
]
